// Elements, and facts as people read them. Whatever comes from a job becomes text, never markup.

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

// What is set anew only where it has changed does not lose focus, selection or a running animation.
const setText = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

const LANGUAGE = "en";

const number = (value) => value.toLocaleString(LANGUAGE);

const count = (value, one, many) => `${number(value)} ${value === 1 ? one : many || `${one}s`}`;

const money = (usd) => {
  const digits = usd && usd < 0.01 ? 4 : 2;
  return `$${usd.toLocaleString(LANGUAGE, { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
};

const span = (seconds) => {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${number(Math.floor(whole / 3600))} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
};

const playingTime = (seconds) => {
  const whole = Math.max(1, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};

const clock = (unix, precise = true) =>
  new Date(unix * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", ...(precise ? { second: "2-digit" } : {}) });

const day = (unix) => new Date(unix * 1000).toLocaleDateString([], { year: "numeric", month: "short", day: "numeric" });

// Text in which the words that were searched for are marked.
const marked = (text, words) => {
  const found = words.filter(Boolean).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  if (!found.length) return [text];
  const pieces = text.split(new RegExp(`(${found.join("|")})`, "giu"));
  return pieces.map((piece, at) => (at % 2 ? el("mark", {}, piece) : piece));
};

const copyText = async (text) => {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = el("textarea", { readonly: true });
    field.value = text;
    (document.querySelector("dialog[open]") || document.body).append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
};

const copyButton = (text, label, what) =>
  el("button", {
    type: "button", class: "copy", title: `Copy ${what}: ${text}`, "aria-label": `Copy ${what}`, tabindex: -1,
    async onclick(event) {
      event.stopPropagation();
      const button = event.currentTarget;
      await copyText(text);
      button.classList.add("copied");
      setText(button, "copied");
      setTimeout(() => {
        button.classList.remove("copied");
        setText(button, label);
      }, 1200);
    },
  }, label);
