// One job as a card.

const STATUS_LABELS = {
  waiting: "waiting", submitting: "submitting", running: "running", downloading: "downloading", completed: "completed",
  failed: "failed", unknown: "unknown", timed_out: "timed out", download_failed: "download failed", cancelled: "cancelled",
};

const statusLabel = (job) => STATUS_LABELS[job.status] ?? job.status;

const promptOf = (job) => job.prompt || (job.references.length ? `No prompt, ${count(job.references.length, "reference")}` : "No prompt recorded");

const posterOf = (job, isLazy = true) => {
  const image = el("img", { class: "poster", alt: "", decoding: "async", loading: isLazy ? "lazy" : "eager", draggable: "false" });
  image.addEventListener("error", () => image.replaceWith(el("div", { class: "placeholder play" })));
  image.src = job.poster;
  return image;
};

// The poster of a clip, or the status and error of a job without one.
const mediaOf = (job, isLazy = true) => {
  if (job.clips.length) return job.poster ? posterOf(job, isLazy) : el("div", { class: "placeholder play" });
  const label = statusLabel(job);
  const title = job.status === "completed" ? "Clip not found" : label[0].toUpperCase() + label.slice(1);
  return el("div", { class: "placeholder" }, el("strong", {}, title), el("span", {}, job.error ?? ""));
};

const MAX_DOTS = 6; // longer chains are shown as "7 of 12"

const chainButton = (job, chain, choose, isNarrow) => {
  const at = chain.findIndex((each) => each.key === job.key) + 1;
  const title = `Clip ${at} of ${chain.length} in a chain. Show the chain`;
  const dots = isNarrow ? `${at}/${chain.length}` : chain.length > MAX_DOTS ? `${at} of ${chain.length}` : chain.map((each) => el("i", { class: each.key === job.key ? "here" : null }));
  return el("button", {
    type: "button", class: "chain", title, "aria-label": title, tabindex: -1,
    onclick(event) {
      event.stopPropagation();
      choose(job);
    },
  }, dots);
};

const cardOf = (job, { words, chain, choose, isNarrow }) => {
  const media = el("div", { class: "media" }, mediaOf(job));
  if (job.clip_seconds && job.clips.length) media.append(el("span", { class: "badge" }, playingTime(job.clip_seconds)));
  if (job.status === "running" || job.status === "downloading") {
    const bar = el("i");
    bar.style.width = `${Math.min(100, job.progress ?? (job.status === "downloading" ? 100 : 0))}%`;
    media.append(el("div", { class: "progress" }, bar));
  }
  const facts = [
    job.cost === undefined ? null : el("span", { title: job.previous_task_ids ? "Cost, including previous tasks" : "Cost" }, money(job.cost)),
    job.server_seconds === undefined ? null : el("span", { title: "Time on the server" }, isNarrow ? duration(job.server_seconds) : `took ${duration(job.server_seconds)}`),
    job.possibly_paid_twice ? el("span", { class: "status", title: "Two submits of this job may both have been billed" }, "paid twice?") : null,
    chain.length > 1 ? chainButton(job, chain, choose, isNarrow) : null,
  ];
  return el(
    "article",
    { class: "card", role: "listitem", tabindex: -1, "aria-label": `${promptOf(job)}. ${statusLabel(job)}`, data: { status: job.status, key: job.key } },
    media,
    el(
      "div",
      { class: "caption" },
      el("p", { class: job.prompt ? "prompt" : "prompt none", title: job.prompt }, highlighted(promptOf(job), words)),
      el("div", { class: "meta" }, facts),
      el("div", { class: "meta last" }, el("span", { class: "model", title: job.model }, job.model ?? ""), job.task_id ? copyButton(job.task_id, "copy id", "task ID") : null),
    ),
  );
};
