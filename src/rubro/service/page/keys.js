// Keys of the view of one title, and the list of all keys.

import { byId, onClick } from "./dom.js";
import { clearTitle, confirmFirst } from "./title.js";

const title = byId("title");
const result = byId("result");
const dialog = byId("keys");

// Moves the focus between the title and the candidates.
function move(target, step) {
  const places = [title, ...result.querySelectorAll("#first button, .candidate")];
  const place = places.indexOf(target.closest("#answers li")?.querySelector(".candidate") ?? target);
  if (place < 0) return false;
  places[place + step]?.focus();
  return true;
}

// Acts on a key that was pressed outside of fields, and returns whether the key has a function.
function act({ key, target }) {
  if (key === "ArrowDown" || key === "ArrowUp") return move(target, key === "ArrowDown" ? 1 : -1);
  if (key === "?") {
    dialog.showModal();
    return true;
  }
  if (result.hidden) return false;
  const control = /^[1-5]$/.test(key)
    ? result.querySelector(`.candidate[aria-keyshortcuts^="${key}"]`)
    : key.toLowerCase() === "u" && result.querySelector(".undo");
  if (control) control.click();
  return Boolean(control);
}

// Undoes the correction on the page, unless text was typed that the browser can undo, and returns whether it did.
function undoSaved(target) {
  const { value, selectionStart, selectionEnd } = title;
  const isTyped = target.matches("input, textarea, select") && target !== title;
  if (isTyped || byId("single").hidden || result.hidden) return false;
  if (target === title && selectionEnd - selectionStart < value.length) return false; // saving selects the title
  const undo = result.querySelector(".undo");
  undo?.click();
  return undo !== null;
}

function actInField({ key, target, isComposing }) {
  if (target !== title || isComposing) return false;
  if (key === "Enter") {
    confirmFirst();
    return true;
  }
  return key === "ArrowDown" && !result.hidden && move(title, 1);
}

addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.defaultPrevented || event.repeat) return;
  if (event.altKey) return;
  if (event.metaKey || event.ctrlKey) {
    if (event.key.toLowerCase() === "z" && !event.shiftKey && undoSaved(event.target)) event.preventDefault();
    return;
  }
  const isField = event.target.matches("input, textarea, select");
  if (byId("single").hidden) {
    if (event.key === "?" && !isField) dialog.showModal();
    return;
  }
  if (event.key === "Escape" && !event.isComposing) {
    const isOther = isField && event.target !== title && event.target.value;
    if (event.target.matches("select, textarea")) return;
    if (isOther) {
      event.target.value = "";
      event.target.dispatchEvent(new Event("input"));
    } else {
      clearTitle();
    }
  } else if (isField ? actInField(event) : act(event)) {
    event.preventDefault();
  }
});
onClick("show-keys", () => dialog.showModal());
onClick("hide-keys", () => dialog.close());
