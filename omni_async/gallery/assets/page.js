// The page: connects its parts, and holds what the reader has selected.

// ms between two drawings of a live page. Trades CPU of the browser for how current it is; the server sends changes every
// 500 ms. At half, nothing more is seen; at double, the page lags behind. Chosen, not measured.
const REDRAW_INTERVAL = 400;
const SEARCH_DELAY = 60; // ms after a key before the search is applied, so that fast typing is not searched letter by letter

const DATA = JSON.parse(byId("data").textContent);
const jobs = new Jobs(DATA.jobs);
const selection = { filter: "all", words: [], chain: null, sort: "order", isDescending: false };

// Reads or stores a preference. Returns null where the browser stores nothing, as for some pages opened as files.
const preference = (name, value) => {
  try {
    if (value !== undefined) localStorage.setItem(`omni-async ${name}`, value);
    return localStorage.getItem(`omni-async ${name}`);
  } catch {
    return null;
  }
};

const timeline = new Timeline(byId("timeline"));
const grid = new Grid(byId("grid"), jobs, { choose: (job) => showChain(job), open: (job) => open(job) });
const viewer = new Viewer(byId("viewer"), jobs, () => selection.words);
let live = null;

const refresh = () => {
  const counts = jobs.counts();
  const until = live?.now;
  showTotals(byId("totals"), totalsOf(jobs, counts, until));
  timeline.draw(jobs.list, live?.run?.rate_limited, until);
  showFilters(counts);
  showGrid();
  viewer.refresh();
};

const showGrid = () => {
  const selected = jobs.selected(selection);
  grid.show(selected, selection.words);
  byId("empty").hidden = selected.length > 0;
  setText(byId("empty"), jobs.list.length ? "No matching jobs." : DATA.is_live ? "No jobs yet." : "This folder has no jobs.");
  const note = byId("selection");
  note.hidden = !selection.chain && !selection.words.length;
  if (selection.chain) {
    const all = el("button", { type: "button", onclick: () => showChain(null) }, "Show all");
    note.replaceChildren(`A chain of ${count(selected.length, "clip")}.`, all);
  } else if (selection.words.length) setText(note, `${number(selected.length)} of ${number(jobs.list.length)}`);
};

const showFilters = (counts) => {
  const root = byId("filters");
  if (!counts[selection.filter]) selection.filter = "all";
  const buttons = FILTERS.filter(([name]) => name === "all" || counts[name]).map(([name, label]) => {
    const choose = () => {
      selection.filter = name;
      refresh();
      scrollToGrid();
    };
    return el("button", { type: "button", "aria-pressed": String(selection.filter === name), data: { filter: name }, onclick: choose }, label, el("b", {}, number(counts[name])));
  });
  // Buttons that would not change are kept: replacing them takes the focus away.
  const state = buttons.map((button) => `${button.textContent} ${button.getAttribute("aria-pressed")}`).join("|");
  if (root.dataset.state === state) return;
  root.dataset.state = state;
  const focused = document.activeElement?.dataset?.filter;
  root.replaceChildren(...buttons);
  if (focused) root.querySelector(`[data-filter="${focused}"]`)?.focus();
};

const scrollToGrid = () => {
  const top = byId("grid").getBoundingClientRect().top - byId("bar").offsetHeight - 14;
  if (top < 0) scrollBy({ top, behavior: "instant" });
};

const showChain = (job) => {
  selection.chain = job;
  if (job) Object.assign(selection, { filter: "all", words: [] });
  if (job) byId("search").value = "";
  refresh();
  scrollToGrid();
};

const open = (job) => {
  const at = grid.index.get(job.key);
  viewer.open(job, { first: at === 0, last: at === grid.places.length - 1 });
};

viewer.onmove = (step) => {
  const at = grid.index.get(viewer.key) ?? 0;
  const next = grid.places[at + step];
  if (!next) return;
  open(next.job);
  grid.current = next.job.key;
};
viewer.onclose = (key) => grid.index.has(key) && grid.moveTo(key);

// Search, order, size

let searching = 0;
byId("search").addEventListener("input", (event) => {
  clearTimeout(searching);
  searching = setTimeout(() => {
    selection.words = event.target.value.toLowerCase().split(/\s+/u).filter(Boolean);
    showGrid();
    scrollToGrid();
  }, SEARCH_DELAY);
});
byId("search").addEventListener("keydown", (event) => {
  if (event.key === "Escape" || event.key === "Enter" || event.key === "ArrowDown") {
    event.preventDefault();
    event.stopPropagation();
    if (event.key === "Escape") {
      event.target.value = "";
      selection.words = [];
      showGrid();
    }
    event.target.blur();
    if (event.key === "ArrowDown" && grid.places.length) grid.moveTo(grid.places[0].job.key);
  }
});

const showDirection = () => {
  setText(byId("direction"), selection.isDescending ? "↓" : "↑");
  byId("direction").title = selection.isDescending ? "Largest or latest first" : "Smallest or earliest first";
};
byId("sort").addEventListener("change", (event) => {
  selection.sort = event.target.value;
  selection.isDescending = selection.sort !== "order";
  showDirection();
  showGrid();
  scrollToGrid();
});
byId("direction").addEventListener("click", () => {
  selection.isDescending = !selection.isDescending;
  showDirection();
  showGrid();
  scrollToGrid();
});

const chooseSize = (size) => {
  grid.size = size;
  for (const button of byId("sizes").children) button.setAttribute("aria-pressed", String(Number(button.dataset.size) === size));
};
SIZES.forEach((_, size) => {
  const label = `${["Small", "Medium", "Large"][size]} cards`;
  const choose = () => {
    preference("size", size);
    chooseSize(size);
    grid.arrange();
  };
  byId("sizes").append(el("button", { type: "button", title: label, "aria-label": label, data: { size }, onclick: choose }, el("i", { data: { size } })));
});
// On a phone, a vertical clip at medium size would fill the screen.
const defaultSize = () => (innerWidth < 620 && jobs.list.some((job) => shapeOf(job) < 1) ? 0 : 1);

addEventListener("keydown", (event) => {
  const isTyping = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
  if (viewer.isOpen || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    event.preventDefault();
    byId("search").focus();
    byId("search").select();
  } else if (event.key === "Escape" && selection.chain) showChain(null);
  else grid.press(event);
});

let resizing = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(resizing);
  resizing = requestAnimationFrame(() => timeline.draw(jobs.list, live?.run?.rate_limited, live?.now));
});

// Texts about the page itself

const subtitle = [
  DATA.is_sandbox ? "sandbox clips: nothing was charged" : null,
  DATA.is_live ? null : `as of ${date(DATA.written_at)}, ${timeOfDay(DATA.written_at, false)}`,
];
setText(byId("subtitle"), subtitle.filter(Boolean).join(" · "));
byId("footer").append(
  el("span", { class: "keys" }, el("kbd", {}, "/"), " search  ", el("kbd", {}, "←↑↓→"), " move  ", el("kbd", {}, "space"), " play  ", el("kbd", {}, "enter"), " open"),
  ...(DATA.poster_hint ? [el("span", {}, `For poster images: ${DATA.poster_hint}`)] : []),
);

// The fragment of the address names a job by its key, so that a link can lead to it.
const openFragment = () => {
  const job = jobs.byKey.get(decodeURIComponent(location.hash.slice(1)));
  if (job) open(job);
};
addEventListener("hashchange", openFragment);

const follow = () => {
  let timer = 0;
  const refreshSoon = () => {
    timer ||= setTimeout(() => {
      timer = 0;
      refresh();
    }, REDRAW_INTERVAL);
  };
  live = new Live(byId("live"), {
    begin(entries) {
      jobs.clear();
      entries.forEach((entry) => jobs.put(entry));
      if (selection.chain) selection.chain = jobs.byKey.get(selection.chain.key) ?? null;
      if (preference("size") === null) chooseSize(defaultSize());
      refresh();
      if (!viewer.isOpen) openFragment();
    },
    progress(percentages) {
      for (const [key, percent] of Object.entries(percentages)) {
        const job = jobs.byKey.get(key);
        if (job) jobs.put({ ...job, progress: percent });
      }
      refreshSoon();
    },
    update(entries) {
      entries.forEach((entry) => jobs.put(entry));
      refreshSoon();
    },
  });
};

const size = Number(preference("size") ?? defaultSize());
chooseSize(SIZES[size] ? size : 1);
showDirection();
if (DATA.is_live) follow();
refresh();
openFragment();
