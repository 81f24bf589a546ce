// The run as it goes on: what its process tells, and whether it still does.

const SILENCE = 7000; // ms after which a process that says nothing is taken for stuck

class Live {
  constructor(line, { begin, take, advance }) {
    this.line = line;
    this.state = "open";
    this.run = null;
    line.hidden = false;
    this.says("Connecting …");
    const source = (this.source = new EventSource("events"));
    let incoming = [];
    let isWhole = false;
    source.addEventListener("begin", () => {
      isWhole = false;
      incoming = [];
    });
    source.addEventListener("jobs", (event) => {
      this.heard();
      const jobs = JSON.parse(event.data);
      if (isWhole) take(jobs);
      else incoming.push(...jobs);
    });
    source.addEventListener("progress", (event) => {
      this.heard();
      if (isWhole) advance(JSON.parse(event.data));
    });
    source.addEventListener("ready", () => {
      isWhole = true;
      begin(incoming);
    });
    source.addEventListener("run", (event) => {
      this.run = JSON.parse(event.data);
      this.state = this.run.ended ? "ended" : "open";
      this.heard();
      this.tell();
      take([]);
    });
    source.addEventListener("error", () => this.lost());
    setInterval(() => this.state === "open" && this.last && Date.now() - this.last > SILENCE && this.lost(), 1000);
  }

  get now() {
    return this.run && this.state === "open" ? this.run.now + (Date.now() - this.last) / 1000 : null;
  }

  heard() {
    this.last = Date.now();
  }

  lost() {
    if (this.state === "gone") return;
    const hadEnded = this.state === "ended";
    if (hadEnded) this.source.close();
    this.state = "gone";
    const when = this.run ? clock(this.run.now) : "";
    if (hadEnded) {
      this.state = "ended";
      this.says(`The batch has ended (${when}). ${this.head}`, "Its server is gone with it: to play clips, open the gallery that omni-async gallery writes.");
    } else if (this.run) this.says("The batch’s process is gone, or does not answer.", `This is how it stood at ${when}; the same command again goes on.`);
    else this.says("Nothing answers here.");
  }

  tell() {
    const { statistics: sums, total, stopped, ended } = this.run;
    const known = sums.waiting + sums.in_flight + sums.downloading + sums.done + sums.failed + sums.stopped;
    const all = Math.max(total ?? 0, known);
    const facts = [
      `${number(sums.in_flight)} running`,
      `${number(sums.waiting + all - known)} waiting`,
      sums.downloading ? `${number(sums.downloading)} downloading` : null,
      sums.failed ? `${number(sums.failed)} failed` : null,
      sums.stopped ? `${number(sums.stopped)} stopped` : null,
      sums.submits_per_minute ? `${number(Math.round(sums.submits_per_minute))} a minute found` : null,
      sums.refused ? `${count(sums.refused, "submit")} refused` : null,
      sums.cost ? `${money(sums.cost)} in this run` : null,
      stopped ? `No more submits: ${stopped}` : null,
    ];
    this.head = `${number(sums.done)} of ${number(all)} done`;
    if (ended) this.says(`The batch has ended. ${this.head}`, ...facts.slice(2));
    else this.says(this.head, ...facts);
  }

  says(head, ...facts) {
    this.line.dataset.state = this.state;
    this.line.replaceChildren(el("strong", {}, head), ...facts.filter(Boolean).map((fact) => el("span", {}, fact)));
  }
}
