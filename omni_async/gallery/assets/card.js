// One job as a card.

const WORDS = {
  waiting: "waiting", submitting: "being sent", running: "running", downloading: "downloading", completed: "done",
  failed: "failed", unknown: "unknown", overdue: "overdue", undelivered: "not stored", cancelled: "cancelled",
};

const promptOf = (job) => job.prompt || (job.references.length ? `No prompt, ${count(job.references.length, "reference")}` : "No prompt recorded");

const posterOf = (job, lazy = true) => {
  const image = el("img", { class: "poster", alt: "", decoding: "async", loading: lazy ? "lazy" : "eager", draggable: "false" });
  image.addEventListener("error", () => image.replaceWith(el("div", { class: "blank drawn" })));
  image.src = job.poster;
  return image;
};

const pictureOf = (job, lazy = true) => {
  if (job.clips.length) return job.poster ? posterOf(job, lazy) : el("div", { class: "blank drawn" });
  const state = WORDS[job.status] ?? job.status;
  const head = job.status === "completed" ? "No clip here" : state[0].toUpperCase() + state.slice(1);
  return el("div", { class: "blank" }, el("strong", {}, head), el("span", {}, job.error ?? ""));
};

const MOST_DOTS = 6;

const chainMark = (job, chain, choose, isNarrow) => {
  const at = chain.findIndex((each) => each.key === job.key) + 1;
  const title = `Clip ${at} of ${chain.length} in a chain: show it`;
  const dots = isNarrow ? `${at}/${chain.length}` : chain.length > MOST_DOTS ? `${at} of ${chain.length}` : chain.map((each) => el("i", { class: each.key === job.key ? "here" : null }));
  return el("button", {
    type: "button", class: "chain", title, "aria-label": title, tabindex: -1,
    onclick(event) {
      event.stopPropagation();
      choose(job);
    },
  }, dots);
};

const cardOf = (job, { words, chain, choose, isNarrow }) => {
  const media = el("div", { class: "media" }, pictureOf(job));
  if (job.seconds && job.clips.length) media.append(el("span", { class: "badge" }, playingTime(job.seconds)));
  if (job.status === "running" || job.status === "downloading") {
    const advance = el("i");
    advance.style.width = `${Math.min(100, job.progress ?? (job.status === "downloading" ? 100 : 0))}%`;
    media.append(el("div", { class: "advance" }, advance));
  }
  const facts = [
    job.status === "completed" ? null : el("span", { class: "state" }, WORDS[job.status] ?? job.status),
    job.cost === undefined ? null : el("span", { title: job.earlier ? "What it cost, earlier times included" : "What it cost" }, money(job.cost)),
    job.took === undefined ? null : el("span", { title: "How long the server took" }, isNarrow ? span(job.took) : `took ${span(job.took)}`),
    job.twice ? el("span", { class: "state", title: "Two submits may each have bought it" }, "paid twice?") : null,
    chain.length > 1 ? chainMark(job, chain, choose, isNarrow) : null,
  ];
  return el(
    "article",
    { class: "card", role: "listitem", tabindex: -1, "aria-label": `${promptOf(job)}. ${WORDS[job.status] ?? job.status}`, data: { status: job.status, key: job.key } },
    media,
    el(
      "div",
      { class: "caption" },
      el("p", { class: job.prompt ? "prompt" : "prompt none", title: job.prompt }, marked(promptOf(job), words)),
      el("div", { class: "meta" }, facts),
      el("div", { class: "meta last" }, el("span", { class: "model", title: job.model }, job.model ?? ""), job.task ? copyButton(job.task, "copy id", "task_id") : null),
    ),
  );
};
