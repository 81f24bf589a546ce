// DOM elements and formatted values. Text that comes from a job is always inserted as text, never as markup.

const byId = (id) => document.getElementById(id);

const el = (tag, properties = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
};

const svg = (tag, attributes = {}, ...children) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

// An element that is only changed when its text differs keeps focus, selection and running animations.
const setText = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

const LOCALE = "en"; // the texts of the page are English, so are its numbers

const number = (value) => value.toLocaleString(LOCALE);

const count = (value, one, many) => `${number(value)} ${value === 1 ? one : many || `${one}s`}`;

// Costs below a cent are shown with four digits: "$0.00" would look free.
const money = (usd) => {
  const digits = usd && usd < 0.01 ? 4 : 2;
  return `$${usd.toLocaleString(LOCALE, { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
};

const duration = (seconds) => {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`; // 9.95 and above would be rounded to "10.0 s"
  const rounded = Math.round(seconds);
  if (rounded < 60) return `${rounded} s`;
  if (rounded < 3600) return `${Math.floor(rounded / 60)} min ${String(rounded % 60).padStart(2, "0")} s`;
  return `${number(Math.floor(rounded / 3600))} h ${String(Math.floor((rounded % 3600) / 60)).padStart(2, "0")} min`;
};

const playingTime = (seconds) => {
  const rounded = Math.max(1, Math.round(seconds));
  return `${Math.floor(rounded / 60)}:${String(rounded % 60).padStart(2, "0")}`;
};

const timeOfDay = (unix, withSeconds = true) =>
  new Date(unix * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", ...(withSeconds ? { second: "2-digit" } : {}) });

const date = (unix) => new Date(unix * 1000).toLocaleDateString([], { year: "numeric", month: "short", day: "numeric" });

// Text as nodes, with the search words highlighted.
const highlighted = (text, words) => {
  const patterns = words.filter(Boolean).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  if (!patterns.length) return [text];
  const pieces = text.split(new RegExp(`(${patterns.join("|")})`, "giu"));
  return pieces.map((piece, at) => (at % 2 ? el("mark", {}, piece) : piece)); // split() puts the matches at odd indexes
};

// The clipboard API is not available on a page from plain http or a file in every browser; a selected text field is.
const copyText = async (text) => {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = el("textarea", { readonly: true });
    field.value = text;
    // Inside an open dialog, only its own elements can be selected.
    (document.querySelector("dialog[open]") || document.body).append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
};

const COPIED = 1200; // ms for which a copy button confirms

const copyButton = (text, label, what) =>
  el("button", {
    type: "button", class: "copy", title: `Copy ${what}: ${text}`, "aria-label": `Copy ${what}`, tabindex: -1,
    async onclick(event) {
      event.stopPropagation(); // the card behind it would open
      const button = event.currentTarget;
      await copyText(text);
      button.classList.add("copied");
      setText(button, "copied");
      setTimeout(() => {
        button.classList.remove("copied");
        setText(button, label);
      }, COPIED);
    },
  }, label);
