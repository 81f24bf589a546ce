// One clip, large, with all that is known of it.

class Viewer {
  constructor(dialog, jobs, words) {
    this.dialog = dialog;
    this.jobs = jobs;
    this.words = words;
    this.onmove = () => {};
    this.onclose = () => {};
    dialog.addEventListener("close", () => {
      dialog.replaceChildren();
      const key = this.key;
      this.key = null;
      history.replaceState(null, "", location.pathname + location.search);
      this.onclose(key);
    });
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("keydown", (event) => this.press(event));
  }

  get isOpen() {
    return this.dialog.open;
  }

  open(job, ways = {}) {
    this.key = job.key;
    this.ways = ways;
    history.replaceState(null, "", `#${encodeURIComponent(job.key)}`);
    this.mark(job);
    this.dialog.replaceChildren(this.stage(job, 0), this.facts(job), this.tools());
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.focus();
    this.dialog.querySelector('.strip [aria-current="true"]')?.scrollIntoView({ block: "nearest", inline: "center" });
  }

  mark(job) {
    this.dialog.dataset.status = job.status;
    this.dialog.classList.toggle("bare", !job.clips.length);
  }

  // What is told of the job may change while it is looked at; the video goes on.
  refresh() {
    const job = this.jobs.byKey.get(this.key);
    if (!this.isOpen || !job) return;
    this.mark(job);
    this.dialog.querySelector(".facts").replaceWith(this.facts(job));
    if (!this.dialog.querySelector("video")) this.dialog.querySelector(".stage").replaceWith(this.stage(job, 0));
  }

  press(event) {
    const video = this.dialog.querySelector("video");
    if (event.target === video && event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      event.preventDefault();
      this.onmove(event.key === "ArrowLeft" ? -1 : 1);
    } else if (event.key === " " && video && event.target.tagName !== "BUTTON") {
      event.preventDefault();
      if (video.paused) video.play().catch(() => {});
      else video.pause();
    }
  }

  stage(job, number) {
    const stage = el("div", { class: "stage" });
    if (!job.clips.length) {
      stage.append(pictureOf(job, false));
      return stage;
    }
    const video = el("video", { src: job.clips[number], controls: true, autoplay: true, loop: true, playsinline: true, poster: number ? null : job.poster });
    video.addEventListener("error", () => {
      const reason = "This clip cannot be played: it is not beside this page, or the browser does not know its kind.";
      stage.replaceChildren(el("div", { class: "blank" }, el("strong", {}, "No clip here"), el("span", {}, reason)));
    });
    stage.append(video);
    return stage;
  }

  facts(job) {
    const chain = this.jobs.chainOf(job);
    const facts = el("div", { class: "facts" }, el("p", { class: "words" }, marked(promptOf(job), this.words())));
    if (job.error && job.clips.length) facts.append(el("p", { class: "reason" }, job.error));
    if (job.clips.length > 1) facts.append(this.choices(job));
    if (chain.length > 1) facts.append(el("h2", {}, `Chain of ${chain.length}`), this.strip(job, chain));
    facts.append(this.list(job));
    return facts;
  }

  list(job) {
    const moment = (unix) => (unix ? `${day(unix)}, ${clock(unix)}` : undefined);
    const parent = this.jobs.parentOf(job);
    const rows = [
      ["State", WORDS[job.status] ?? job.status],
      ["Cost", job.cost === undefined ? undefined : money(job.cost)],
      ["Took", job.took === undefined ? undefined : span(job.took)],
      ["Length", job.seconds && span(job.seconds)],
      ["Picture", job.width && `${job.width} × ${job.height}`],
      ["Model", job.model],
      ["Key", [job.key, copyButton(job.key, "copy", "key")]],
      ["task_id", job.task && [job.task, copyButton(job.task, "copy", "task_id")]],
      ["Extends", parent ? parent.key : job.extends],
      ["References", job.references.length ? job.references.map((each) => el("div", {}, each)) : undefined],
      ["Submits", job.submits > 1 ? `${job.submits}${job.doubtful ? `, ${job.doubtful} without a clear answer` : ""}` : undefined],
      ["Earlier tasks", job.earlier && job.earlier.join(", ")],
      ["Sent", moment(job.submitted)],
      [job.clips.length ? "Made" : "Ended", moment(job.finished)],
    ];
    const told = rows.filter(([, value]) => value !== undefined && value !== "" && value !== null);
    return el("dl", {}, told.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  }

  choices(job) {
    const buttons = job.clips.map((_, number) =>
      el("button", {
        type: "button", "aria-pressed": String(number === 0),
        onclick: (event) => {
          for (const button of buttons) button.setAttribute("aria-pressed", String(button === event.currentTarget));
          this.dialog.querySelector(".stage").replaceWith(this.stage(job, number));
        },
      }, `Clip ${number + 1}`),
    );
    return el("div", { class: "choices" }, buttons);
  }

  strip(job, chain) {
    return el("div", { class: "strip" }, chain.map((each) => {
      const button = el("button", {
        type: "button", title: promptOf(each), "aria-label": promptOf(each), "aria-current": String(each.key === job.key),
        data: { status: each.status }, onclick: () => this.open(each, this.ways),
      }, each.poster ? posterOf(each, false) : el("span", {}, WORDS[each.status] ?? each.status));
      button.style.width = `${Math.round(54 * shapeOf(each))}px`;
      return button;
    }));
  }

  tools() {
    const button = (text, label, onclick, disabled) => el("button", { type: "button", title: label, "aria-label": label, onclick, disabled }, text);
    return el(
      "div",
      { class: "tools" },
      button("‹", "The one before", () => this.onmove(-1), this.ways.first),
      button("›", "The next one", () => this.onmove(1), this.ways.last),
      button("×", "Close", () => this.dialog.close()),
    );
  }
}
