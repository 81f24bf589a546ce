// All jobs of the page: by key and task, their chains, counts, filters and orders.

// Filter buttons: name, label, and the statuses that they show (null: all).
const FILTERS = [
  ["all", "All", null],
  ["clips", "Clips", ["completed"]],
  ["failed", "Failed", ["failed"]],
  ["unknown", "Unknown", ["unknown"]],
  ["unfinished", "Unfinished", ["waiting", "submitting", "running", "downloading", "timed_out", "download_failed"]],
  ["cancelled", "Cancelled", ["cancelled"]],
];

const lastChange = (job) => job.finished_at ?? job.accepted_at ?? job.submitted_at ?? job.created_at ?? 0;

// Values to sort by, named as the options of the select element. Jobs without a value come last.
const SORTS = {
  order: (job) => job.index,
  time: lastChange,
  cost: (job) => job.cost,
  server_seconds: (job) => job.server_seconds,
  clip_seconds: (job) => job.clip_seconds,
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
    this.children = null; // built by chainOf() when first needed
  }

  // Adds a job, or replaces the one with the same key. Every job object is new: the grid compares objects.
  put(entry) {
    const before = this.byKey.get(entry.key);
    const text = [entry.prompt, entry.key, entry.task_id, entry.model, entry.error, entry.status].filter(Boolean).join("\n");
    const job = { clips: [], references: [], ...entry, index: before ? before.index : this.list.length, text: text.toLowerCase() };
    this.list[job.index] = job;
    this.byKey.set(job.key, job);
    if (job.task_id) this.byTask.set(job.task_id, job);
    this.children = null;
  }

  parentOf(job) {
    return this.byKey.get(job.parent) ?? (job.extends ? this.byTask.get(job.extends) : undefined);
  }

  // The complete chain of a job, starting with its first clip. A clip with two extensions is followed by both.
  chainOf(job) {
    this.children ??= this.childrenByKey();
    const seen = new Set(); // a damaged ledger may contain a cycle
    let root = job;
    for (let ancestor = job; ancestor && !seen.has(ancestor); ancestor = this.parentOf(ancestor)) {
      seen.add(ancestor);
      root = ancestor;
    }
    const chain = [], stack = [root];
    const added = new Set();
    while (stack.length) {
      const next = stack.pop();
      if (added.has(next.key)) continue;
      added.add(next.key);
      chain.push(next);
      stack.push(...(this.children.get(next.key) ?? []).slice().reverse());
    }
    return chain;
  }

  childrenByKey() {
    const children = new Map();
    for (const job of this.list) {
      const parent = this.parentOf(job);
      if (!parent) continue;
      if (!children.has(parent.key)) children.set(parent.key, []);
      children.get(parent.key).push(job);
    }
    return children;
  }

  counts() {
    const counts = Object.fromEntries(FILTERS.map(([name]) => [name, 0]));
    const filterOf = Object.fromEntries(FILTERS.flatMap(([name, , statuses]) => (statuses ?? []).map((status) => [status, name])));
    for (const job of this.list) {
      counts.all += 1;
      counts[filterOf[job.status] ?? "unfinished"] += 1;
    }
    return counts;
  }

  // The jobs to show, in order. `words` must all occur; `chain` is a job whose chain is shown, or null.
  selected({ filter, words, chain, sort, isDescending }) {
    const statuses = FILTERS.find(([name]) => name === filter)[2];
    const chainKeys = chain ? new Set(this.chainOf(chain).map((job) => job.key)) : null;
    const selected = this.list.filter(
      (job) =>
        (!statuses || statuses.includes(job.status)) &&
        (!chainKeys || chainKeys.has(job.key)) &&
        words.every((word) => job.text.includes(word)),
    );
    const value = SORTS[sort], sign = isDescending ? -1 : 1;
    return selected.sort((a, b) => {
      const [left, right] = [value(a), value(b)];
      if (left === undefined || right === undefined) return (left === undefined) - (right === undefined) || a.index - b.index;
      return sign * (left - right) || a.index - b.index;
    });
  }
}

// A gap of ten minutes without an event, or of twice the longest job if that is more, separates two sessions. At half,
// a quiet stretch of a slow run is taken for a gap; at double, short breaks count as time of the run. Chosen, not measured.
const SESSION_GAP = 600; // seconds

// The periods in which something happened, so that a run resumed the next day does not include the night.
const sessions = (jobs, until) => {
  const times = [];
  let longest = 0;
  for (const job of jobs) {
    if (job.server_seconds) longest = Math.max(longest, job.server_seconds);
    for (const time of [job.submitted_at, job.accepted_at, job.finished_at]) if (time) times.push(time);
  }
  if (until && times.length) times.push(until);
  times.sort((a, b) => a - b);
  const gap = Math.max(SESSION_GAP, 2 * longest);
  const found = [];
  for (const time of times) {
    const current = found.at(-1);
    if (current && time - current.end <= gap) current.end = time;
    else found.push({ start: time, end: time });
  }
  return found;
};
