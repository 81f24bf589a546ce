// The run over time: how many were submitted, running and done at each moment; failures and refused submits as marks.

const HEIGHT = 118, FOOT = 30, HEAD = 14, REST = 16;

class Timeline {
  constructor(figure) {
    this.figure = figure;
    this.legend = el("figcaption", { class: "legend" });
    this.drawing = el("div");
    figure.append(this.legend, this.drawing);
    this.labels = {};
    for (const [name, text] of [["submitted", "submitted"], ["running", "running"], ["done", "done"], ["failed", "failed"], ["refused", "refused"]]) {
      const label = el("span", {}, text);
      this.labels[name] = [label, text];
      this.legend.append(el("span", { class: name }, el("i"), label));
    }
    this.moment = el("span", {});
    this.legend.append(this.moment);
  }

  draw(jobs, refusals, until) {
    const width = this.figure.parentElement.clientWidth - parseFloat(getComputedStyle(this.figure.parentElement).paddingLeft) * 2;
    const stretches = sittings(jobs, until);
    const whole = stretches.reduce((sum, { start, end }) => sum + end - start, 0);
    this.figure.hidden = !stretches.length || whole <= 0 || width < 100;
    if (this.figure.hidden) return;
    this.counts = this.counted(jobs);
    this.marks = this.marked(jobs, refusals);
    this.scale = this.scaled(stretches, whole, width);
    this.width = width;
    this.paint(stretches);
  }

  counted(jobs) {
    const sorted = (moments) => Float64Array.from(moments.filter(Boolean)).sort();
    const taken = jobs.filter((job) => job.accepted);
    return {
      submitted: sorted(taken.map((job) => job.accepted)),
      ended: sorted(taken.map((job) => job.finished)),
      done: sorted(jobs.filter((job) => job.status === "completed").map((job) => job.finished)),
    };
  }

  // Without a record of each refusal, what is known of a job that was sent more than once is when it was let in at last.
  marked(jobs, refusals) {
    const refused = refusals ?? jobs
      .map((job) => [job.submitted, (job.submits ?? 0) - (job.doubtful ?? 0) - (job.task ? 1 : 0)])
      .filter(([moment, times]) => moment && times > 0);
    const failed = jobs.filter((job) => job.status === "failed" && job.finished).map((job) => [job.finished, 1]);
    return { refused, failed };
  }

  scaled(stretches, whole, width) {
    const free = width - REST * (stretches.length - 1);
    let x = 0;
    return stretches.map(({ start, end }) => {
      const piece = { start, end, x, width: Math.max(2, (free * (end - start)) / whole) };
      x += piece.width + REST;
      return piece;
    });
  }

  place(moment) {
    const piece = this.scale.find(({ end }) => moment <= end) ?? this.scale.at(-1);
    const share = (moment - piece.start) / (piece.end - piece.start || 1);
    return piece.x + piece.width * Math.min(1, Math.max(0, share));
  }

  at(x) {
    const piece = this.scale.find((each) => x <= each.x + each.width) ?? this.scale.at(-1);
    return piece.start + (piece.end - piece.start) * Math.min(1, Math.max(0, (x - piece.x) / piece.width));
  }

  numbers(moment) {
    const upTo = (sorted) => {
      let low = 0, high = sorted.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (sorted[middle] <= moment) low = middle + 1;
        else high = middle;
      }
      return low;
    };
    const submitted = upTo(this.counts.submitted);
    return { submitted, running: submitted - upTo(this.counts.ended), done: upTo(this.counts.done) };
  }

  paint(stretches) {
    const total = Math.max(1, this.counts.submitted.length), floor = HEIGHT - FOOT;
    const y = (value) => floor - ((floor - HEAD) * value) / total;
    const drawing = svg("svg", { viewBox: `0 0 ${this.width} ${HEIGHT}`, height: HEIGHT, role: "img", "aria-label": this.told() });
    drawing.append(svg("line", { class: "rule", x1: 0, x2: this.width, y1: y(total), y2: y(total) }));
    for (const piece of this.scale) drawing.append(...this.curves(piece, y));
    drawing.append(svg("line", { class: "rule", x1: 0, x2: this.width, y1: floor, y2: floor }));
    for (const piece of this.scale.slice(1)) {
      drawing.append(svg("line", { class: "break", x1: piece.x - REST / 2, x2: piece.x - REST / 2, y1: HEAD, y2: floor }));
    }
    for (const name of ["refused", "failed"]) {
      for (const x of new Set(this.marks[name].map(([moment]) => Math.round(this.place(moment))))) {
        const top = name === "refused" ? floor + 2 : floor - 7;
        drawing.append(svg("line", { class: name, x1: x, x2: x, y1: top, y2: top + 7 }));
      }
    }
    const ends = [stretches[0].start, stretches.at(-1).end];
    const isOneDay = day(ends[0]) === day(ends[1]);
    const text = (moment) => (isOneDay ? clock(moment) : `${day(moment)}, ${clock(moment, false)}`);
    drawing.append(
      svg("text", { x: 0, y: y(total) - 4 }, number(total)),
      svg("text", { x: 0, y: HEIGHT - 6 }, text(ends[0])),
      svg("text", { x: this.width, y: HEIGHT - 6, "text-anchor": "end" }, text(ends[1])),
    );
    const pointer = svg("line", { class: "pointer", y1: HEAD, y2: floor });
    drawing.append(pointer);
    const drawn = this.drawing.getBoundingClientRect.bind(this.drawing);
    drawing.addEventListener("pointermove", (event) => this.point(event.clientX - drawn().left, pointer));
    drawing.addEventListener("pointerleave", () => this.point(null, pointer));
    this.drawing.replaceChildren(drawing);
    this.point(null, pointer);
  }

  curves(piece, y) {
    const columns = Math.max(2, Math.round(piece.width));
    const lines = { submitted: "", running: `M${piece.x},${y(0)}`, done: "" };
    const before = {};
    for (let column = 0; column <= columns; column += 1) {
      const x = (piece.x + (piece.width * column) / columns).toFixed(1);
      const values = this.numbers(piece.start + ((piece.end - piece.start) * column) / columns);
      for (const name of Object.keys(lines)) {
        if (column && column < columns && values[name] === before[name]) continue;
        lines[name] += lines[name] ? `${before[name] === undefined ? "" : `H${x}`}V${y(values[name]).toFixed(1)}` : `M${x},${y(values[name]).toFixed(1)}`;
        before[name] = values[name];
      }
    }
    lines.running += `V${y(0)}Z`;
    return ["running", "submitted", "done"].map((name) => svg("path", { class: name, d: lines[name] }));
  }

  point(x, pointer) {
    const moment = x === null ? this.scale.at(-1).end : this.at(x);
    const numbers = this.numbers(moment);
    const sum = (marks) => marks.reduce((all, [when, times]) => all + (when <= moment ? times : 0), 0);
    numbers.failed = sum(this.marks.failed);
    numbers.refused = sum(this.marks.refused);
    for (const [name, [label, text]] of Object.entries(this.labels)) {
      setText(label, `${number(numbers[name])} ${text}`);
      label.parentElement.hidden = !numbers[name] && (name === "failed" || name === "refused") && x === null;
    }
    setText(this.moment, x === null ? "" : clock(moment));
    pointer.setAttribute("visibility", x === null ? "hidden" : "visible");
    for (const end of ["x1", "x2"]) pointer.setAttribute(end, this.place(moment));
  }

  told() {
    const { submitted, done } = this.numbers(this.scale.at(-1).end);
    return `Over time: ${count(submitted, "job")} submitted, ${number(done)} done`;
  }
}
