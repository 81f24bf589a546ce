// The live page: receives the events of live.py, and shows whether the process of the run still responds.

// ms without a message after which the process is shown as not responding. The server sends one at least every 2 s
// (_HEARTBEAT in live.py), so three may be late. At half, a busy process looks dead; at double, a crash shows late.
const SILENCE = 7000;

// ms before the page asks again after it was refused, as it is while too many browsers follow the run. Browsers reconnect
// by themselves after a broken connection, but not after a refusal. At half, a crowd asks twice as often; at double, a
// free place is noticed later.
const RETRY = 5000;

class Live {
  // `element` shows the state of the run. The callbacks: `begin` gets all jobs of a snapshot, `update` changed jobs (an
  // empty list if only the run has changed), `progress` the percentage by key.
  constructor(element, { begin, update, progress }) {
    this.element = element;
    this.handlers = { begin, update, progress };
    this.state = "running"; // or "ended", or "lost"
    this.run = null;
    element.hidden = false;
    this.show("Connecting …");
    this.connect();
    // A stopped process (SIGSTOP, a suspended machine) keeps its connection open: there is no error event.
    setInterval(() => this.state === "running" && this.last && Date.now() - this.last > SILENCE && this.lost(), 1000);
  }

  connect() {
    const { begin, update, progress } = this.handlers;
    const source = (this.source = new EventSource("events"));
    let snapshot = [];
    let isComplete = false; // whether the snapshot has been received
    source.addEventListener("begin", () => {
      isComplete = false;
      snapshot = [];
    });
    source.addEventListener("jobs", (event) => {
      this.received();
      const jobs = JSON.parse(event.data);
      if (isComplete) update(jobs);
      else snapshot.push(...jobs);
    });
    source.addEventListener("progress", (event) => {
      this.received();
      if (isComplete) progress(JSON.parse(event.data));
    });
    source.addEventListener("ready", () => {
      isComplete = true;
      begin(snapshot);
    });
    source.addEventListener("run", (event) => {
      this.run = JSON.parse(event.data);
      this.state = this.run.has_ended ? "ended" : "running";
      this.received();
      this.showRun();
      update([]);
    });
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED && this.state !== "ended") setTimeout(() => this.connect(), RETRY);
      this.lost();
    });
  }

  // The time of the server in unix seconds, null unless the run is in progress.
  get now() {
    return this.run && this.state === "running" ? this.run.now + (Date.now() - this.last) / 1000 : null;
  }

  received() {
    this.last = Date.now();
  }

  lost() {
    if (this.state === "lost") return;
    const time = this.run ? timeOfDay(this.run.now) : "";
    if (this.state === "ended") {
      // Without close() the browser would reconnect until the page is closed, perhaps to the server of another run.
      this.source.close();
      this.show(`The run has ended (${time}). ${this.summary}`, "This page's server has stopped. To play the clips, run omni-async gallery and open the page that it writes.");
      return;
    }
    this.state = "lost";
    if (this.run) this.show("The process of this run has stopped or does not respond.", `Last update at ${time}. To continue, run the same command again.`);
    else this.show("The server does not respond, or too many browsers follow this run.");
  }

  showRun() {
    const { statistics, total, has_ended } = this.run;
    const known = statistics.waiting + statistics.in_flight + statistics.downloading + statistics.completed + statistics.failed + statistics.unresolved;
    const all = Math.max(total ?? 0, known);
    const perMinute = statistics.learned_submits_per_minute;
    const active = [`${number(statistics.in_flight)} running`, `${number(statistics.waiting + all - known)} waiting`];
    const facts = [
      statistics.downloading ? `${number(statistics.downloading)} downloading` : null,
      statistics.failed ? `${number(statistics.failed)} failed` : null,
      statistics.unresolved ? `${number(statistics.unresolved)} unresolved` : null,
      perMinute ? `learned limit: ${number(perMinute < 10 ? Math.round(10 * perMinute) / 10 : Math.round(perMinute))} submits per minute` : null,
      statistics.rate_limited ? `${count(statistics.rate_limited, "submit")} rate limited` : null,
      statistics.cost ? `${money(statistics.cost)} in this run` : null,
      statistics.stop_reason ? `Submissions have stopped: ${statistics.stop_reason}` : null,
    ];
    this.summary = `${number(statistics.completed)} of ${number(all)} completed`;
    if (has_ended) this.show(`The run has ended. ${this.summary}`, ...facts);
    else this.show(this.summary, ...active, ...facts);
  }

  show(head, ...facts) {
    this.element.dataset.state = this.state;
    this.element.replaceChildren(el("strong", {}, head), ...facts.filter(Boolean).map((fact) => el("span", {}, fact)));
  }
}
