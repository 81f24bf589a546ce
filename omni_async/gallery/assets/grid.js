// The cards on the screen. Only cards near the window exist as elements; the others are rectangles in the layout. So a
// page of many thousand jobs scrolls as smoothly as a small one.

// ms that the pointer rests on a clip before it plays. At half, moving across the page starts clips; at double, playing
// feels late. Chosen by feel, not measured.
const HOVER_DELAY = 140;
// px: narrower cards leave out the words that explain a number.
const NARROW = 220;
// Heights of the window, above and below it, in which cards are kept. Trades elements and memory for cards without a
// picture while scrolling fast: benchmarks.gallery expects no frame with one at up to 4000 px/s. At half, posters appear
// late; at double, twice the cards are built and updated.
const MARGIN = 1.2;

class Grid {
  // `choose` is called to show the chain of a job, `open` to show a job in the viewer.
  constructor(root, jobs, { choose, open }) {
    this.root = root;
    this.jobs = jobs;
    this.choose = choose;
    this.open = open;
    this.player = new Player();
    this.cards = new Map(); // by key: the cards that exist
    this.places = []; // the layout: all selected jobs in order
    this.index = new Map(); // by key: the index in places
    this.current = null; // the key of the card that the keyboard is at
    this.words = [];
    this.size = 1;
    const draw = () => {
      this.isScheduled = false;
      this.draw();
    };
    // At most one drawing per frame, however many scroll events there are.
    addEventListener("scroll", () => {
      if (this.isScheduled) return;
      this.isScheduled = true;
      requestAnimationFrame(draw);
    }, { passive: true });
    new ResizeObserver(() => this.arrange()).observe(root);
    this.listen();
  }

  show(list, words) {
    const isNew = words.join(" ") !== this.words.join(" ");
    this.list = list;
    this.words = words;
    if (isNew) this.drop(() => true); // the highlighted words are part of each card
    this.arrange();
  }

  arrange() {
    if (!this.list) return;
    const style = getComputedStyle(document.documentElement);
    const [gap, caption] = ["--gap", "--caption"].map((name) => parseFloat(style.getPropertyValue(name)));
    const layout = layoutCards(this.list, this.root.clientWidth, this.size, gap, caption);
    this.places = layout.places;
    this.index = new Map(this.places.map((place, at) => [place.job.key, at]));
    this.root.style.height = `${layout.height}px`;
    this.draw();
  }

  draw() {
    const top = -this.root.getBoundingClientRect().top, margin = innerHeight * MARGIN;
    const [from, to] = [top - margin, top + innerHeight + margin];
    // The focused card stays, so that the keyboard does not lose its place when the page is scrolled.
    const needed = this.places.filter((place) => (place.y + place.height > from && place.y < to) || place.job.key === this.focused());
    const keys = new Set(needed.map((place) => place.job.key));
    this.drop((key) => !keys.has(key));
    let before = null;
    for (const place of needed) {
      const card = this.card(place);
      const next = before ? before.nextSibling : this.root.firstChild;
      if (next !== card) this.root.insertBefore(card, next); // in order, for the tab key and screen readers
      before = card;
    }
  }

  card(place) {
    const { job } = place;
    const known = this.cards.get(job.key);
    const chain = this.jobs.chainOf(job);
    const isNarrow = place.width < NARROW;
    const state = [isNarrow, ...chain.map((each) => each.key)].join("\n");
    let card = known?.card;
    // A card whose clip plays is not replaced: that would stop it.
    if (!known || (known.state !== state || known.job !== job) && !(this.player.isAt(card.firstChild) && job.clips.length)) {
      card = this.newCard(job, { chain, isNarrow }, card);
      this.cards.set(job.key, { card, job, state });
    }
    card.style.transform = `translate(${place.x}px, ${place.y}px)`;
    card.style.width = `${place.width}px`;
    card.firstChild.style.height = `${place.media}px`;
    const at = this.index.get(job.key);
    card.setAttribute("aria-posinset", at + 1);
    card.setAttribute("aria-setsize", this.places.length);
    card.tabIndex = job.key === this.current || (this.current === null && at === 0) ? 0 : -1;
    return card;
  }

  newCard(job, options, old) {
    const card = cardOf(job, { words: this.words, choose: this.choose, ...options });
    if (!old) return card;
    const hasFocus = document.activeElement === old;
    const [poster, fresh] = [old, card].map((each) => each.querySelector("img.poster"));
    if (poster && fresh && poster.src === fresh.src) fresh.replaceWith(poster); // loaded already: no flicker
    if (this.player.isAt(old.firstChild)) this.player.stop();
    old.replaceWith(card);
    if (hasFocus) card.focus({ preventScroll: true });
    return card;
  }

  drop(isDropped) {
    for (const [key, { card }] of this.cards) {
      if (!isDropped(key)) continue;
      if (this.player.isAt(card.firstChild)) this.player.stop();
      card.remove();
      this.cards.delete(key);
    }
  }

  // Keyboard

  focused() {
    const card = document.activeElement?.closest?.(".card");
    return card ? card.dataset.key : null;
  }

  moveTo(key) {
    const place = this.places[this.index.get(key)];
    if (!place) return;
    this.current = key;
    const bar = byId("bar").offsetHeight + 10, top = this.root.getBoundingClientRect().top + place.y;
    if (top < bar) scrollBy({ top: top - bar, behavior: "instant" });
    else if (top + place.height > innerHeight - 10) {
      scrollBy({ top: Math.min(top - bar, top + place.height - innerHeight + 10), behavior: "instant" });
    }
    this.draw(); // the card may not exist before
    this.cards.get(key)?.card.focus({ preventScroll: true });
    this.draw(); // the card that had the focus may be dropped now
  }

  press(event) {
    if (!this.places.length) return;
    const key = this.focused() ?? (this.index.has(this.current) ? this.current : null);
    if (["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) {
      event.preventDefault();
      const at = key === null ? this.firstOnScreen() : neighbour(this.places, this.index.get(key), event.key);
      this.moveTo(this.places[at].job.key);
    } else if (this.focused() && event.key === " ") {
      event.preventDefault();
      const { card, job } = this.cards.get(key);
      if (job.clips.length) this.player.toggle(card.firstChild, job.clips[0]);
    } else if (this.focused() && event.key === "Enter") {
      event.preventDefault();
      this.open(this.cards.get(key).job);
    }
  }

  firstOnScreen() {
    const top = byId("bar").getBoundingClientRect().bottom - this.root.getBoundingClientRect().top;
    return Math.max(0, this.places.findIndex((place) => place.y + place.media > top));
  }

  // Pointer

  listen() {
    let timer = 0;
    const at = (event) => {
      const media = event.target.closest(".media"), card = event.target.closest(".card");
      return { media, card, job: card && this.cards.get(card.dataset.key)?.job };
    };
    const reducesMotion = matchMedia("(prefers-reduced-motion: reduce)");
    this.root.addEventListener("pointerover", (event) => {
      const { media, job } = at(event);
      if (event.pointerType !== "mouse" || !media || !job?.clips.length || reducesMotion.matches || this.player.isAt(media)) return;
      clearTimeout(timer);
      timer = setTimeout(() => this.player.play(media, job.clips[0]), HOVER_DELAY);
    });
    this.root.addEventListener("pointerout", (event) => {
      const { media } = at(event);
      if (event.pointerType !== "mouse" || !media || media.contains(event.relatedTarget)) return;
      clearTimeout(timer);
      if (this.player.isAt(media)) this.player.stop();
    });
    this.root.addEventListener("click", (event) => {
      const { media, card, job } = at(event);
      if (!job) return;
      this.current = job.key;
      // A touch screen cannot hover: a tap on the picture plays, one on the text opens.
      const isTouch = event.pointerType === "touch" || event.pointerType === "pen";
      if (media && job.clips.length && isTouch) {
        card.focus({ preventScroll: true });
        this.player.toggle(media, job.clips[0]);
      } else {
        clearTimeout(timer);
        this.player.stop();
        this.open(job);
      }
    });
    this.root.addEventListener("focusin", (event) => {
      const { card } = at(event);
      if (card && event.target === card) this.current = card.dataset.key;
    });
  }
}
