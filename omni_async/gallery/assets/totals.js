// The numbers at the top of the page.

// Rows of [class, value, label, isHidden].
const totalsOf = (jobs, counts, until) => {
  const all = jobs.list;
  const sum = (value) => all.reduce((total, job) => total + (value(job) ?? 0), 0);
  const periods = sessions(all, until);
  const elapsed = periods.reduce((total, { start, end }) => total + end - start, 0);
  const twice = all.filter((job) => job.possibly_paid_twice).length;
  return [
    ["clips", number(counts.clips), counts.clips === 1 ? "clip" : "clips"],
    ["cost", money(sum((job) => job.cost)), "total cost"],
    ["failed", number(counts.failed), "failed", !counts.failed],
    ["unknown", number(counts.unknown), "unknown", !counts.unknown],
    ["unknown twice", number(twice), "paid twice?", !twice],
    ["unfinished", number(counts.unfinished), "unfinished", !counts.unfinished],
    ["elapsed", duration(elapsed), periods.length > 1 ? `elapsed in ${periods.length} sessions` : "elapsed", !elapsed],
    ["length", duration(sum((job) => (job.clips.length ? job.clip_seconds : 0))), "of video", !all.some((job) => job.clip_seconds)],
  ].filter(([, , , isHidden]) => !isHidden);
};

const showTotals = (list, totals) => {
  const names = totals.map(([name]) => name).join("|");
  // The elements are kept while the same rows are shown, so that selected text survives the updates of a live page.
  if (list.dataset.names !== names) {
    list.dataset.names = names;
    list.replaceChildren(...totals.map(([name, , label]) => el("div", { class: name }, el("dt", {}, label), el("dd"))));
  }
  totals.forEach(([, value, label], at) => {
    setText(list.children[at].querySelector("dd"), value);
    setText(list.children[at].querySelector("dt"), label);
  });
};
