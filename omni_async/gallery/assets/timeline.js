// The run over time: how many jobs were accepted, running and completed at each moment. Failures and rate-limited
// submits are marks below the curves.

const HEIGHT = 118, FOOT = 30, HEAD = 14; // px: all, room for the times below, room for the number above
const SESSION_SPACE = 16; // px between two sessions

class Timeline {
  constructor(figure) {
    this.figure = figure;
    this.legend = el("figcaption", { class: "legend" });
    this.drawing = el("div");
    figure.append(this.legend, this.drawing);
    this.labels = {};
    for (const [name, text] of [["accepted", "accepted"], ["running", "running"], ["completed", "completed"], ["failed", "failed"], ["limited", "rate limited"]]) {
      const label = el("span", {}, text);
      this.labels[name] = [label, text];
      this.legend.append(el("span", { class: name }, el("i"), label));
    }
    this.time = el("span", {});
    this.legend.append(this.time);
  }

  // `limited` are the [time, number] pairs of rate-limited submits that a live page receives; `until` is now while a run
  // is in progress.
  draw(jobs, limited, until) {
    const width = this.figure.parentElement.clientWidth - parseFloat(getComputedStyle(this.figure.parentElement).paddingLeft) * 2;
    const periods = sessions(jobs, until);
    const total = periods.reduce((sum, { start, end }) => sum + end - start, 0);
    this.figure.hidden = !periods.length || total <= 0 || width < 100;
    if (this.figure.hidden) return;
    this.times = this.sortedTimes(jobs);
    this.marks = this.markTimes(jobs, limited);
    this.scale = this.scaled(periods, total, width);
    this.width = width;
    this.paint(periods);
  }

  sortedTimes(jobs) {
    const sorted = (times) => Float64Array.from(times.filter(Boolean)).sort();
    const accepted = jobs.filter((job) => job.accepted_at);
    return {
      accepted: sorted(accepted.map((job) => job.accepted_at)),
      ended: sorted(accepted.map((job) => job.finished_at)),
      completed: sorted(jobs.filter((job) => job.status === "completed").map((job) => job.finished_at)),
    };
  }

  // The ledger does not record when each 429 arrived. A static page counts the submits that were neither ambiguous nor
  // accepted, rejected or still in progress, and puts the mark of a job at its last submit.
  markTimes(jobs, recorded) {
    const isCounted = (job) => job.task_id || job.status === "failed" || job.status === "submitting";
    const limited = recorded ?? jobs
      .map((job) => [job.submitted_at, (job.submits ?? 0) - (job.ambiguous_submits ?? 0) - (isCounted(job) ? 1 : 0)])
      .filter(([time, submits]) => time && submits > 0);
    const failed = jobs.filter((job) => job.status === "failed" && job.finished_at).map((job) => [job.finished_at, 1]);
    return { limited, failed };
  }

  // The sessions as pieces of the x axis.
  scaled(periods, total, width) {
    const free = width - SESSION_SPACE * (periods.length - 1);
    let x = 0;
    return periods.map(({ start, end }) => {
      const piece = { start, end, x, width: Math.max(2, (free * (end - start)) / total) };
      x += piece.width + SESSION_SPACE;
      return piece;
    });
  }

  xOf(time) {
    const piece = this.scale.find(({ end }) => time <= end) ?? this.scale.at(-1);
    const share = (time - piece.start) / (piece.end - piece.start || 1);
    return piece.x + piece.width * Math.min(1, Math.max(0, share));
  }

  timeAt(x) {
    const piece = this.scale.find((each) => x <= each.x + each.width) ?? this.scale.at(-1);
    return piece.start + (piece.end - piece.start) * Math.min(1, Math.max(0, (x - piece.x) / piece.width));
  }

  numbersAt(time) {
    const upTo = (sorted) => {
      let low = 0, high = sorted.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (sorted[middle] <= time) low = middle + 1;
        else high = middle;
      }
      return low;
    };
    const accepted = upTo(this.times.accepted);
    return { accepted, running: accepted - upTo(this.times.ended), completed: upTo(this.times.completed) };
  }

  paint(periods) {
    const most = Math.max(1, this.times.accepted.length), base = HEIGHT - FOOT;
    const y = (value) => base - ((base - HEAD) * value) / most;
    const drawing = svg("svg", { viewBox: `0 0 ${this.width} ${HEIGHT}`, height: HEIGHT, role: "img", "aria-label": this.description() });
    drawing.append(svg("line", { class: "rule", x1: 0, x2: this.width, y1: y(most), y2: y(most) }));
    for (const piece of this.scale) drawing.append(...this.curves(piece, y));
    drawing.append(svg("line", { class: "rule", x1: 0, x2: this.width, y1: base, y2: base }));
    for (const piece of this.scale.slice(1)) {
      const x = piece.x - SESSION_SPACE / 2;
      drawing.append(svg("line", { class: "break", x1: x, x2: x, y1: HEAD, y2: base }));
    }
    for (const name of ["limited", "failed"]) {
      // Marks on the same pixel are drawn once: a long run may have thousands.
      for (const x of new Set(this.marks[name].map(([time]) => Math.round(this.xOf(time))))) {
        const top = name === "limited" ? base + 2 : base - 7;
        drawing.append(svg("line", { class: name, x1: x, x2: x, y1: top, y2: top + 7 }));
      }
    }
    const [start, end] = [periods[0].start, periods.at(-1).end];
    const isOneDay = date(start) === date(end);
    const text = (time) => (isOneDay ? timeOfDay(time) : `${date(time)}, ${timeOfDay(time, false)}`);
    drawing.append(
      svg("text", { x: 0, y: y(most) - 4 }, number(most)),
      svg("text", { x: 0, y: HEIGHT - 6 }, text(start)),
      svg("text", { x: this.width, y: HEIGHT - 6, "text-anchor": "end" }, text(end)),
    );
    const pointer = svg("line", { class: "pointer", y1: HEAD, y2: base });
    drawing.append(pointer);
    const box = this.drawing.getBoundingClientRect.bind(this.drawing);
    drawing.addEventListener("pointermove", (event) => this.point(event.clientX - box().left, pointer));
    drawing.addEventListener("pointerleave", () => this.point(null, pointer));
    this.drawing.replaceChildren(drawing);
    this.point(null, pointer);
  }

  // One path per curve, with a step at each column of pixels where its value changes.
  curves(piece, y) {
    const columns = Math.max(2, Math.round(piece.width));
    const paths = { accepted: "", running: `M${piece.x},${y(0)}`, completed: "" };
    const before = {};
    for (let column = 0; column <= columns; column += 1) {
      const x = (piece.x + (piece.width * column) / columns).toFixed(1);
      const values = this.numbersAt(piece.start + ((piece.end - piece.start) * column) / columns);
      for (const name of Object.keys(paths)) {
        if (column && column < columns && values[name] === before[name]) continue;
        paths[name] += paths[name] ? `${before[name] === undefined ? "" : `H${x}`}V${y(values[name]).toFixed(1)}` : `M${x},${y(values[name]).toFixed(1)}`;
        before[name] = values[name];
      }
    }
    paths.running += `V${y(0)}Z`;
    return ["running", "accepted", "completed"].map((name) => svg("path", { class: name, d: paths[name] }));
  }

  // Shows the numbers at the pointer, or those at the end if `x` is null.
  point(x, pointer) {
    const time = x === null ? this.scale.at(-1).end : this.timeAt(x);
    const numbers = this.numbersAt(time);
    const sum = (marks) => marks.reduce((all, [when, times]) => all + (when <= time ? times : 0), 0);
    numbers.failed = sum(this.marks.failed);
    numbers.limited = sum(this.marks.limited);
    for (const [name, [label, text]] of Object.entries(this.labels)) {
      setText(label, `${number(numbers[name])} ${text}`);
      label.parentElement.hidden = !numbers[name] && (name === "failed" || name === "limited") && x === null;
    }
    setText(this.time, x === null ? "" : timeOfDay(time));
    pointer.setAttribute("visibility", x === null ? "hidden" : "visible");
    for (const end of ["x1", "x2"]) pointer.setAttribute(end, this.xOf(time));
  }

  description() {
    const { accepted, completed } = this.numbersAt(this.scale.at(-1).end);
    return `Over time: ${count(accepted, "job")} accepted, ${number(completed)} completed`;
  }
}
