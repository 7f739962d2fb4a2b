// Elements of the page and the browser's storage.

// Changes of other tabs are shown together, because a tab can remove thousands of stored values at once.
const REFRESH_MILLISECONDS = 50;

export const byId = (id) => document.getElementById(id);

export function element(name, className, content) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (content !== undefined) node.textContent = content; // titles are text, never markup
  return node;
}

// Returns a button. Without a label, its content is read aloud.
export function button(content, label, act) {
  const node = element("button", "", content);
  node.type = "button";
  if (label !== null) node.setAttribute("aria-label", label);
  node.addEventListener("click", act);
  return node;
}

// Shows each node as an item of a list.
export function showItems(id, nodes) {
  const items = nodes.map((node) => {
    const item = element("li");
    item.append(node);
    return item;
  });
  byId(id).replaceChildren(...items);
}

// Calls a function with each file that the user chooses in a field.
export function onFile(id, open) {
  byId(id).addEventListener("change", ({ target }) => {
    const [file] = target.files;
    if (file) open(file);
    target.value = ""; // so that the same file can be opened again
  });
}

export function onClick(id, act) {
  byId(id).addEventListener("click", () => act());
}

// Returns a text in lower case and without accents.
export const fold = (content) => content.normalize("NFKD").replaceAll(/\p{M}/gu, "").toLowerCase();

// Only screen readers present this message.
export function announce(message) {
  byId("status").textContent = message;
}

export function showFailure(message, id = "failure") {
  byId(id).textContent = message;
}

export function saveFile(name, content) {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "text/csv;charset=utf-8" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

// Functions that return the storage, because browsers that block it raise an error.
const local = () => localStorage;
export const session = () => sessionStorage; // of this tab

export function readStored(key, storage = local) {
  try {
    return storage().getItem(key);
  } catch {
    return null;
  }
}

// Stores a value, or removes it if it is null or undefined, and returns whether that was possible.
export function store(key, value, storage = local) {
  try {
    if (value == null) storage().removeItem(key);
    else storage().setItem(key, value);
    return true;
  } catch {
    return false;
  }
}

// Returns the stored keys that begin with a prefix.
export function storedKeys(prefix) {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(prefix));
  } catch {
    return [];
  }
}

// Calls a function if the stored values that a view shows may have changed. isShown receives their key.
export function onStored(isShown, refresh) {
  let waiting = 0;
  const later = () => {
    waiting = 0;
    refresh();
  };
  addEventListener("storage", ({ key }) => {
    if (key === null || isShown(key)) waiting ||= setTimeout(later, REFRESH_MILLISECONDS);
  });
  addEventListener("pageshow", refresh); // the browser may show the page as it was
}
