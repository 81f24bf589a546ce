// The page: joins its parts, and keeps what the reader has chosen.

const REDRAW = 400; // ms between two drawings of a live page

const DATA = JSON.parse(byId("data").textContent);
const jobs = new Jobs(DATA.jobs);
const choice = { group: "all", words: [], chain: null, sort: "order", falling: false };

const remembered = (name, value) => {
  try {
    if (value !== undefined) localStorage.setItem(`omni-async ${name}`, value);
    return localStorage.getItem(`omni-async ${name}`);
  } catch {
    return null; // a browser may keep nothing for pages that are files
  }
};

const timeline = new Timeline(byId("timeline"));
const grid = new Grid(byId("grid"), jobs, { choose: (job) => chooseChain(job), open: (job) => open(job) });
const viewer = new Viewer(byId("viewer"), jobs, () => choice.words);
let live = null;

const refresh = () => {
  const counts = jobs.counts();
  const until = live?.now;
  showTotals(byId("totals"), totalsOf(jobs, counts, until));
  timeline.draw(jobs.list, live?.run?.refusals, until);
  showStates(counts);
  showGrid();
  viewer.refresh();
};

const showGrid = () => {
  const shown = jobs.shown(choice);
  grid.show(shown, choice.words);
  byId("nothing").hidden = shown.length > 0;
  setText(byId("nothing"), jobs.list.length ? "Nothing fits that." : DATA.live ? "No job yet." : "There is no job in this folder.");
  const chosen = byId("chosen");
  chosen.hidden = !choice.chain && !choice.words.length;
  if (choice.chain) {
    const all = el("button", { type: "button", onclick: () => chooseChain(null) }, "Show all");
    chosen.replaceChildren(`One chain, ${count(shown.length, "clip")}.`, all);
  } else if (choice.words.length) setText(chosen, `${number(shown.length)} of ${number(jobs.list.length)}`);
};

const showStates = (counts) => {
  const root = byId("states");
  if (!counts[choice.group]) choice.group = "all";
  const buttons = GROUPS.filter(([name]) => name === "all" || counts[name]).map(([name, label]) => {
    const choose = () => {
      choice.group = name;
      refresh();
      scrollToGrid();
    };
    return el("button", { type: "button", "aria-pressed": String(choice.group === name), data: { group: name }, onclick: choose }, label, el("b", {}, number(counts[name])));
  });
  const state = buttons.map((button) => `${button.textContent} ${button.getAttribute("aria-pressed")}`).join("|");
  if (root.dataset.state === state) return;
  root.dataset.state = state;
  const focused = document.activeElement?.dataset?.group;
  root.replaceChildren(...buttons);
  if (focused) root.querySelector(`[data-group="${focused}"]`)?.focus();
};

const scrollToGrid = () => {
  const top = byId("grid").getBoundingClientRect().top - byId("bar").offsetHeight - 14;
  if (top < 0) scrollBy({ top, behavior: "instant" });
};

const chooseChain = (job) => {
  choice.chain = job;
  if (job) Object.assign(choice, { group: "all", words: [] });
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

let typing = 0;
byId("search").addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    choice.words = event.target.value.toLowerCase().split(/\s+/u).filter(Boolean);
    showGrid();
    scrollToGrid();
  }, 60);
});
byId("search").addEventListener("keydown", (event) => {
  if (event.key === "Escape" || event.key === "Enter" || event.key === "ArrowDown") {
    event.preventDefault();
    event.stopPropagation();
    if (event.key === "Escape") {
      event.target.value = "";
      choice.words = [];
      showGrid();
    }
    event.target.blur();
    if (event.key === "ArrowDown" && grid.places.length) grid.moveTo(grid.places[0].job.key);
  }
});

const showDirection = () => {
  setText(byId("direction"), choice.falling ? "↓" : "↑");
  byId("direction").title = choice.falling ? "Largest or latest first" : "Smallest or earliest first";
};
byId("sort").addEventListener("change", (event) => {
  choice.sort = event.target.value;
  choice.falling = choice.sort !== "order";
  showDirection();
  showGrid();
  scrollToGrid();
});
byId("direction").addEventListener("click", () => {
  choice.falling = !choice.falling;
  showDirection();
  showGrid();
  scrollToGrid();
});

const chooseSize = (size) => {
  grid.size = size;
  for (const button of byId("sizes").children) button.setAttribute("aria-pressed", String(Number(button.dataset.size) === size));
};
SIZES.forEach((_, size) => {
  const label = `${["Small", "Middle", "Large"][size]} clips`;
  const choose = () => {
    remembered("size", size);
    chooseSize(size);
    grid.arrange();
  };
  byId("sizes").append(el("button", { type: "button", title: label, "aria-label": label, data: { size }, onclick: choose }, el("i", { data: { size } })));
});
const usualSize = () => (innerWidth < 620 && jobs.list.some((job) => shapeOf(job) < 1) ? 0 : 1);

addEventListener("keydown", (event) => {
  const isTyping = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
  if (viewer.isOpen || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    event.preventDefault();
    byId("search").focus();
    byId("search").select();
  } else if (event.key === "Escape" && choice.chain) chooseChain(null);
  else grid.press(event);
});

let drawing = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(drawing);
  drawing = requestAnimationFrame(() => timeline.draw(jobs.list, live?.run?.refusals, live?.now));
});

// What is said of the page itself

const subtitle = [
  DATA.sandbox ? "clips of a sandbox, in play money" : null,
  DATA.live ? null : `as of ${day(DATA.written)}, ${clock(DATA.written, false)}`,
];
setText(byId("subtitle"), subtitle.filter(Boolean).join(" · "));
byId("foot").append(
  el("span", { class: "keys" }, el("kbd", {}, "/"), " search  ", el("kbd", {}, "←↑↓→"), " move  ", el("kbd", {}, "space"), " plays  ", el("kbd", {}, "enter"), " opens"),
  ...(DATA.posters ? [el("span", {}, `For posters: ${DATA.posters}`)] : []),
);

const openNamed = () => {
  const named = jobs.byKey.get(decodeURIComponent(location.hash.slice(1)));
  if (named) open(named);
};
addEventListener("hashchange", openNamed);

const listen = () => {
  let timer = 0;
  const soon = () => {
    timer ||= setTimeout(() => {
      timer = 0;
      refresh();
    }, REDRAW);
  };
  live = new Live(byId("live"), {
    begin(entries) {
      jobs.clear();
      entries.forEach((entry) => jobs.put(entry));
      if (choice.chain) choice.chain = jobs.byKey.get(choice.chain.key) ?? null;
      if (remembered("size") === null) chooseSize(usualSize());
      refresh();
      if (!viewer.isOpen) openNamed();
    },
    advance(progress) {
      for (const [key, percent] of Object.entries(progress)) {
        const job = jobs.byKey.get(key);
        if (job) jobs.put({ ...job, progress: percent });
      }
      soon();
    },
    take(entries) {
      entries.forEach((entry) => jobs.put(entry));
      soon();
    },
  });
};

const chosenSize = Number(remembered("size") ?? usualSize());
chooseSize(SIZES[chosenSize] ? chosenSize : 1);
showDirection();
if (DATA.live) listen();
refresh();
openNamed();
