// Starts the page, and shows the view and the language that the user has chosen.

import { focusBatch, reopenBatch, showBatch } from "./batch_view.js";
import { send, showCorrections } from "./corrections.js";
import { byId, onClick, readStored, showFailure, store } from "./dom.js";
import { TEXTS, text, useLanguage } from "./language.js";
import "./keys.js";
import { readModel, summary } from "./model.js";
import { focusView, openFirst, showQueue } from "./queue_view.js";
import { ask, showColumns, showModel, showTitle } from "./title.js";

const LANGUAGE = "rubro.language";

function setLanguage(chosen) {
  useLanguage(chosen);
  byId("language").value = chosen;
  showTitle();
  showModel();
  showCorrections();
  showQueue();
  showBatch();
}

const VIEWS = ["single", "batch", "queue"];

// The address ends with # and the name of the view.
function showView() {
  const chosen = VIEWS.find((each) => location.hash === `#${each}`) ?? "single";
  for (const each of VIEWS) byId(each).hidden = each !== chosen;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${chosen}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (chosen === "queue") showQueue();
  showBatch();
}

async function start() {
  ask();
  await showDescription();
  reopenBatch();
  await openFirst();
}

// Reads and shows the categories, the columns and the description of the model.
async function showDescription() {
  try {
    await readModel();
  } catch {
    showFailure(text().silent);
    byId("retry").hidden = false;
    return;
  }
  showModel();
  showColumns();
  showCorrections();
  send();
}

byId("language").addEventListener("change", (event) => {
  store(LANGUAGE, event.target.value);
  setLanguage(event.target.value);
});
onClick("retry", async () => {
  byId("title").focus();
  if (!summary) await showDescription();
  ask();
});
addEventListener("hashchange", () => {
  showView();
  if (!byId("queue").hidden) focusView();
  else if (!byId("batch").hidden) focusBatch();
  else byId("title").focus();
});

const preferred = navigator.language.startsWith("es") ? "es" : "en";
setLanguage(readStored(LANGUAGE) in TEXTS ? readStored(LANGUAGE) : preferred);
showView();
start();
