// The model that the service uses: its categories, its columns and its predictions.

import { byId, element } from "./dom.js";
import { currentLanguage, text } from "./language.js";

export const ARROW = "\u00a0› "; // between the names of a path; it does not begin a line
export const TOP = 5;

export let columns = []; // names of the columns that the model reads in addition to the title
export let titleColumn = "title";
export let categoryColumns = ["category"]; // several if each contains a level of the category paths
export let categories = [];
export let paths = new Map(); // names of each category from the root, if the categories are paths

// Reads the categories and columns of the model that the service uses.
export async function readModel() {
  const [found, version] = await Promise.all(
    ["categories", "version"].map(async (path) => (await fetch(path)).json()),
  );
  categories = found.categories;
  categoryColumns = found.category_columns;
  [titleColumn, ...columns] = version.columns ?? [found.title_column];
  if (found.paths) {
    paths = new Map(categories.map((category, place) => [category, found.paths[place]]));
    // Categories with the same ancestors are listed together.
    categories.sort((one, other) => pathText(one).localeCompare(pathText(other), currentLanguage()));
  }
}

export function listCategories(id, names) {
  byId(id).replaceChildren(
    ...names.map((name) => {
      const option = element("option");
      option.value = name;
      return option;
    }),
  );
}

// Asks the service about a product, whose columns may be missing, and returns the content of its answer.
export async function askService(path, product, settings) {
  const hasColumns = Object.keys(product.columns ?? {}).length > 0;
  const asked = hasColumns ? { [titleColumn]: product.title, ...product.columns } : product.title;
  let response;
  let found;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ [path === "predict" ? "titles" : "title"]: asked, ...settings }),
    });
    found = await response.json();
  } catch {
    throw new Error(text().silent);
  }
  if (!response.ok) throw new Error(found.detail);
  const answer = found.answer ?? found.answers[0];
  if (answer.error !== null) throw new Error(answer.error);
  return { ...found, answer };
}

// Returns the names from the root. In the category itself, they may be in another order, such as leaf first.
export function pathText(category, path = paths.get(category)) {
  return path ? path.join(ARROW) : category;
}

// Returns the name of a category; the ancestors in a path are small.
export function categoryName(category, path) {
  const broken = (name) => name.split(/(?<=_)/).flatMap((part) => [part, element("wbr")]);
  const name = element("span");
  if (!path) {
    name.append(...broken(category));
    return name;
  }
  const ancestors = path.slice(0, -1).join(ARROW);
  if (ancestors) name.append(element("span", "ancestors quiet", ancestors + ARROW), element("wbr"));
  const leaf = element("strong", "leaf");
  leaf.append(...broken(path.at(-1)));
  name.append(leaf);
  return name;
}

// Returns the category that the user has entered: its name, or the last name of its path if no other path ends with it.
export function enteredCategory(entered) {
  const isLeaf = ([, path]) => path.at(-1).toLowerCase() === entered.toLowerCase();
  const found = paths.has(entered) ? [] : [...paths].filter(isLeaf);
  return found.length === 1 ? found[0][0] : entered;
}
