// One clip in a dialog, with everything that is known about its job.

class Viewer {
  constructor(dialog, jobs, words) {
    this.dialog = dialog;
    this.jobs = jobs;
    this.words = words;
    this.onmove = () => {}; // called with -1 or 1 to go to the previous or next job
    this.onclose = () => {}; // called with the key of the job that was shown
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

  // `position` tells whether the job is the first or last of those selected.
  open(job, position = {}) {
    this.key = job.key;
    this.position = position;
    history.replaceState(null, "", `#${encodeURIComponent(job.key)}`);
    this.setStatus(job);
    this.dialog.replaceChildren(this.stage(job, 0), this.facts(job), this.tools());
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.focus();
    this.dialog.querySelector('.strip [aria-current="true"]')?.scrollIntoView({ block: "nearest", inline: "center" });
  }

  setStatus(job) {
    this.dialog.dataset.status = job.status;
    this.dialog.classList.toggle("no-clip", !job.clips.length);
  }

  // Shows the current state of the job. A video that plays is left alone.
  refresh() {
    const job = this.jobs.byKey.get(this.key);
    if (!this.isOpen || !job) return;
    this.setStatus(job);
    this.dialog.querySelector(".facts").replaceWith(this.facts(job));
    if (!this.dialog.querySelector("video")) this.dialog.querySelector(".stage").replaceWith(this.stage(job, 0));
  }

  press(event) {
    const video = this.dialog.querySelector("video");
    // A focused video has its own keys, except for the arrows that change the clip.
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

  stage(job, index) {
    const stage = el("div", { class: "stage" });
    if (!job.clips.length) {
      stage.append(mediaOf(job, false));
      return stage;
    }
    const video = el("video", { src: job.clips[index], controls: true, autoplay: true, loop: true, playsinline: true, poster: index ? null : job.poster });
    video.addEventListener("error", () => {
      const reason = "The clip is not in the same folder as this page, or the browser does not support its format.";
      stage.replaceChildren(el("div", { class: "placeholder" }, el("strong", {}, "This clip cannot be played"), el("span", {}, reason)));
    });
    stage.append(video);
    return stage;
  }

  facts(job) {
    const chain = this.jobs.chainOf(job);
    const facts = el("div", { class: "facts" }, el("p", { class: "full-prompt" }, highlighted(promptOf(job), this.words())));
    if (job.error && job.clips.length) facts.append(el("p", { class: "error" }, job.error));
    if (job.clips.length > 1) facts.append(this.choices(job));
    if (chain.length > 1) facts.append(el("h2", {}, `Chain of ${chain.length}`), this.strip(job, chain));
    facts.append(this.list(job));
    return facts;
  }

  list(job) {
    const moment = (unix) => (unix ? `${date(unix)}, ${timeOfDay(unix)}` : undefined);
    const parent = this.jobs.parentOf(job);
    const rows = [
      ["Status", statusLabel(job)],
      ["Cost", job.cost === undefined ? undefined : money(job.cost)],
      ["Server time", job.server_seconds === undefined ? undefined : duration(job.server_seconds)],
      ["Length", job.clip_seconds && duration(job.clip_seconds)],
      ["Size", job.width && `${job.width} × ${job.height}`],
      ["Model", job.model],
      ["Key", [job.key, copyButton(job.key, "copy", "key")]],
      ["Task ID", job.task_id && [job.task_id, copyButton(job.task_id, "copy", "task ID")]],
      ["Extends", parent ? parent.key : job.extends],
      ["References", job.references.length ? job.references.map((each) => el("div", {}, each)) : undefined],
      ["Submits", job.submits > 1 ? `${job.submits}${job.ambiguous_submits ? `, ${job.ambiguous_submits} with unknown outcome` : ""}` : undefined],
      ["Previous tasks", job.previous_task_ids && job.previous_task_ids.join(", ")],
      ["Submitted", moment(job.submitted_at)],
      [job.clips.length ? "Finished" : "Ended", moment(job.finished_at)],
    ];
    const shown = rows.filter(([, value]) => value !== undefined && value !== "" && value !== null);
    return el("dl", {}, shown.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  }

  choices(job) {
    const buttons = job.clips.map((_, index) =>
      el("button", {
        type: "button", "aria-pressed": String(index === 0),
        onclick: (event) => {
          for (const button of buttons) button.setAttribute("aria-pressed", String(button === event.currentTarget));
          this.dialog.querySelector(".stage").replaceWith(this.stage(job, index));
        },
      }, `Clip ${index + 1}`),
    );
    return el("div", { class: "choices" }, buttons);
  }

  strip(job, chain) {
    return el("div", { class: "strip" }, chain.map((each) => {
      const button = el("button", {
        type: "button", title: promptOf(each), "aria-label": promptOf(each), "aria-current": String(each.key === job.key),
        data: { status: each.status }, onclick: () => this.open(each, this.position),
      }, each.poster ? posterOf(each, false) : el("span", {}, statusLabel(each)));
      button.style.width = `${Math.round(54 * shapeOf(each))}px`; // 54 px: the height of the strip in gallery.css
      return button;
    }));
  }

  tools() {
    const button = (text, label, onclick, disabled) => el("button", { type: "button", title: label, "aria-label": label, onclick, disabled }, text);
    return el(
      "div",
      { class: "tools" },
      button("‹", "Previous", () => this.onmove(-1), this.position.first),
      button("›", "Next", () => this.onmove(1), this.position.last),
      button("×", "Close", () => this.dialog.close()),
    );
  }
}
