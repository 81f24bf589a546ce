// What it all comes to.

const totalsOf = (jobs, counts, until) => {
  const all = jobs.list;
  const sum = (value) => all.reduce((total, job) => total + (value(job) ?? 0), 0);
  const stretches = sittings(all, until);
  const wall = stretches.reduce((total, { start, end }) => total + end - start, 0);
  const twice = all.filter((job) => job.twice).length;
  return [
    ["clips", number(counts.clips), counts.clips === 1 ? "clip" : "clips"],
    ["paid", money(sum((job) => job.cost)), "paid"],
    ["failed", number(counts.failed), "failed", !counts.failed],
    ["unknown", number(counts.unknown), "unknown", !counts.unknown],
    ["unknown twice", number(twice), "paid twice?", !twice],
    ["open", number(counts.open), "unfinished", !counts.open],
    ["wall", span(wall), stretches.length > 1 ? `in ${stretches.length} sittings` : "wall time", !wall],
    ["length", span(sum((job) => (job.clips.length ? job.seconds : 0))), "of film", !all.some((job) => job.seconds)],
  ].filter(([, , , isHidden]) => !isHidden);
};

const showTotals = (list, totals) => {
  const names = totals.map(([name]) => name).join("|");
  if (list.dataset.names !== names) {
    list.dataset.names = names;
    list.replaceChildren(...totals.map(([name, , label]) => el("div", { class: name }, el("dt", {}, label), el("dd"))));
  }
  totals.forEach(([, value, label], at) => {
    setText(list.children[at].querySelector("dd"), value);
    setText(list.children[at].querySelector("dt"), label);
  });
};
