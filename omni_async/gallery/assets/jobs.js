// All jobs: which there are, which extend which, what they come to, and which of them are to be shown, in which order.

const GROUPS = [
  ["all", "All", null],
  ["clips", "Clips", ["completed"]],
  ["failed", "Failed", ["failed"]],
  ["unknown", "Unknown", ["unknown"]],
  ["open", "Unfinished", ["waiting", "submitting", "running", "downloading", "overdue", "undelivered"]],
  ["cancelled", "Cancelled", ["cancelled"]],
];

const last = (job) => job.finished ?? job.accepted ?? job.submitted ?? job.created ?? 0;

const SORTS = {
  order: (job) => job.index,
  time: last,
  cost: (job) => job.cost,
  took: (job) => job.took,
  length: (job) => job.seconds,
};

class Jobs {
  constructor(entries) {
    this.clear();
    entries.forEach((entry) => this.put(entry));
  }

  clear() {
    this.list = [];
    this.byKey = new Map();
    this.byTask = new Map();
    this.children = null;
  }

  put(entry) {
    const before = this.byKey.get(entry.key);
    const text = [entry.prompt, entry.key, entry.task, entry.model, entry.error, entry.status].filter(Boolean).join("\n");
    const job = { clips: [], references: [], ...entry, index: before ? before.index : this.list.length, text: text.toLowerCase() };
    this.list[job.index] = job;
    this.byKey.set(job.key, job);
    if (job.task) this.byTask.set(job.task, job);
    this.children = null;
  }

  parentOf(job) {
    return this.byKey.get(job.parent) ?? (job.extends ? this.byTask.get(job.extends) : undefined);
  }

  // The whole chain that a job is part of, from its first clip on; a clip that two others extend has both behind it.
  chainOf(job) {
    this.children ??= this.joined();
    const seen = new Set();
    let root = job;
    for (let above = job; above && !seen.has(above); above = this.parentOf(above)) {
      seen.add(above);
      root = above;
    }
    const chain = [], open = [root];
    const taken = new Set();
    while (open.length) {
      const next = open.pop();
      if (taken.has(next.key)) continue;
      taken.add(next.key);
      chain.push(next);
      open.push(...(this.children.get(next.key) ?? []).slice().reverse());
    }
    return chain;
  }

  joined() {
    const children = new Map();
    for (const job of this.list) {
      const parent = this.parentOf(job);
      if (parent) children.set(parent.key, [...(children.get(parent.key) ?? []), job]);
    }
    return children;
  }

  counts() {
    const counts = Object.fromEntries(GROUPS.map(([name]) => [name, 0]));
    const groupOf = Object.fromEntries(GROUPS.flatMap(([name, , statuses]) => (statuses ?? []).map((status) => [status, name])));
    for (const job of this.list) {
      counts.all += 1;
      counts[groupOf[job.status] ?? "open"] += 1;
    }
    return counts;
  }

  shown({ group, words, chain, sort, falling }) {
    const statuses = GROUPS.find(([name]) => name === group)[2];
    const kin = chain ? new Set(this.chainOf(chain).map((job) => job.key)) : null;
    const shown = this.list.filter(
      (job) =>
        (!statuses || statuses.includes(job.status)) &&
        (!kin || kin.has(job.key)) &&
        words.every((word) => job.text.includes(word)),
    );
    const value = SORTS[sort], sign = falling ? -1 : 1;
    return shown.sort((a, b) => {
      const [left, right] = [value(a), value(b)];
      if (left === undefined || right === undefined) return (left === undefined) - (right === undefined) || a.index - b.index;
      return sign * (left - right) || a.index - b.index;
    });
  }
}

// Stretches of time in which something was going on: a run that was taken up the next day did not take a night.
const sittings = (jobs, until) => {
  const moments = [];
  let longest = 0;
  for (const job of jobs) {
    if (job.took) longest = Math.max(longest, job.took);
    for (const moment of [job.submitted, job.accepted, job.finished]) if (moment) moments.push(moment);
  }
  if (until && moments.length) moments.push(until);
  moments.sort((a, b) => a - b);
  const pause = Math.max(600, 2 * longest);
  const found = [];
  for (const moment of moments) {
    const current = found.at(-1);
    if (current && moment - current.end <= pause) current.end = moment;
    else found.push({ start: moment, end: moment });
  }
  return found;
};
