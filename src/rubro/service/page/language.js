// Texts of the page in each language.

const skippedTitles = (count) => `${count} ${count === 1 ? "saltado" : "saltados"}`;

export const TEXTS = {
  en: {
    language: "Language",
    title: "Product title",
    more: "More about the product",
    categories: "Categories",
    below: (threshold) => `Below the ${threshold} threshold`,
    neverAccepted: "No confidence is high enough to accept this category",
    foreign: "Most words of this title are not in the training titles",
    sure: (path, share) => `Only certain about ${path}: ${share}`,
    intro: "Type a product title to see its category, and which words decided it.",
    try: "Or try one of these:",
    categoryCount: (count) => `${count} ${count === 1 ? "category" : "categories"}`,
    promise: (share) => `${share} of the accepted answers are right`,
    api: "API",
    retry: "Retry",
    right: "Correct",
    others: "Or is it one of these?",
    isSaved: "Saved",
    undoSaved: (title) => `Undo the correction of ${title}`,
    other: "None of these? Enter the right category",
    near: "Similar names:",
    useNew: "Save as a new category",
    keys: "Keyboard",
    keyConfirm: "confirm the first category (in the title)",
    keyMove: "move between the title and the categories",
    keyChoose: "choose a category (outside of text fields)",
    keyUndo: "undo (outside of text fields)",
    keyClear: "clear the title",
    keyDecide: "keep the label, or change it to the suggestion",
    keySuggestion: "choose a suggestion",
    keySearch: "search for another category",
    keySkip: "skip, undo",
    keyHelp: "show this list (outside of text fields)",
    keyFive: "1 to 5",
    closeKeys: "Close",
    save: "Save",
    corrections: "Corrections",
    kept: "They stay in this browser until you remove them.",
    download: "Download as CSV",
    clear: "Remove all",
    remove: "Remove",
    removeOne: (title) => `Remove the correction of ${title}`,
    saved: (title, category) => `Saved: ${title}, ${category}`,
    undone: (title) => `The correction of ${title} is undone.`,
    listAll: (count) => `Show all ${count}`,
    clearAll: (count) => `Remove all ${count} corrections from this list?`,
    removed: (count) => `${count} ${count === 1 ? "correction" : "corrections"} removed.`,
    undoRemoved: "Undo the removal",
    collected: (count, waiting) =>
      `The service collects the corrections. ${waiting ? `${waiting} not sent yet.` : count ? "All are sent." : ""}`,
    answer: (category, share) => `${category}, ${share}`,
    reasonsFor: (words) => `For: ${words}.`,
    reasonsAgainst: (words) => `Against: ${words}.`,
    views: "Views",
    single: "One title",
    queue: "Queue of titles",
    queueHeading: "Label and correct titles",
    queueFormats:
      "Open a file from rubro audit or rubro next, or any CSV file with a title column. It stays in this browser.",
    queueFile: "CSV file (or drop it here)",
    progress: "Progress",
    progressed: (decided, all, skipped) => `${decided} of ${all}${skipped ? `, ${skipped} skipped` : ""}`,
    further: "Further columns",
    currentLabel: "Current label",
    suggestedCategory: "Suggested category",
    keep: "Keep",
    change: "Change",
    skip: "Skip",
    undo: "Undo",
    search: "Another category",
    choose: "Choose",
    revisit: "Show the skipped titles again",
    close: "Close the file",
    clearDecisions: "Remove my decisions",
    clearConfirmed: (name) => `Remove all decisions about ${name} from this browser?`,
    folder: "Copy the downloaded file to data/corrections/, and run dvc repro.",
    wordsFor: (words) => `Words for the suggestion: ${words}`,
    skipped: "skipped",
    decided: (title, decision) => `Saved: ${title} → ${decision}.`,
    decidedBefore: (decision) => `Decided before: ${decision}`,
    done: (skipped) =>
      skipped ? `All other titles are decided; ${skipped} skipped.` : "All titles are decided. Download the file.",
    unknown: (names) => `The model does not know these categories: ${names}.`,
    andMore: (count) => ` and ${count} more`,
    newCategory: (name) => `${name} is a new category. Press Enter again to use it.`,
    noCategory: (name) => `${name} is not a known category. Choose one of the list.`,
    fullQueue: "This browser cannot store all decisions. Download them before you leave.",
    csv: {
      largeFile: (size) => `The file is larger than ${size} MiB. Split it into several files.`,
      notUtf8: () => "The file is not encoded as UTF-8. Save it as “CSV UTF-8” (not as a spreadsheet), and open it again.",
      unreadable: () => "The browser cannot read the file. Open it again.",
      emptyFile: () => "The file is empty. It needs a first line with the names of its columns.",
      noRows: (found) => `The file contains only the names of its columns: ${found.join(", ")}.`,
      badQuote: (line) => `Line ${line}: there is text after a closing quote. Double the quotes in a field.`,
      openQuote: (line) => `Line ${line}: a quote is opened and never closed. Add the closing quote.`,
      longRow: (row, fields, columns) =>
        `Row ${row} has ${fields} fields, but there are only ${columns} columns. Quote fields that contain separators.`,
      missingColumns: (missing, found) =>
        `The file has no column ${missing.join(" and no column ")}. Columns found: ${found.join(", ")}. Rename the columns.`,
    },
    silent: "The service does not answer.",
    full: "This browser cannot store corrections. Download them before you leave.",
  },
  es: {
    language: "Idioma",
    title: "Título de un producto",
    more: "Más sobre el producto",
    categories: "Categorías",
    below: (threshold) => `Por debajo del umbral del ${threshold}`,
    neverAccepted: "Ninguna confianza alcanza para aceptar esta categoría",
    foreign: "La mayoría de las palabras no está en los títulos de entrenamiento",
    sure: (path, share) => `Seguro solo hasta ${path}, ${share}`,
    intro: "Escribe el título de un producto para ver su categoría y las palabras que la deciden.",
    try: "O prueba con uno de estos:",
    categoryCount: (count) => `${count} ${count === 1 ? "categoría" : "categorías"}`,
    promise: (share) => `el ${share} de las respuestas aceptadas es correcto`,
    api: "API",
    retry: "Reintentar",
    right: "Correcta",
    others: "¿O es una de estas?",
    isSaved: "Guardada",
    undoSaved: (title) => `Deshacer la corrección de ${title}`,
    near: "Nombres parecidos:",
    useNew: "Guardar como categoría nueva",
    keys: "Teclado",
    keyConfirm: "confirmar la primera categoría (en el título)",
    keyMove: "pasar del título a las categorías y volver",
    keyChoose: "elegir una categoría (fuera de los campos de texto)",
    keyUndo: "deshacer (fuera de los campos de texto)",
    keyClear: "borrar el título",
    keyDecide: "mantener la categoría, o cambiarla por la sugerida",
    keySuggestion: "elegir una sugerencia",
    keySearch: "buscar otra categoría",
    keySkip: "saltar, deshacer",
    keyHelp: "mostrar esta lista (fuera de los campos de texto)",
    keyFive: "1 a 5",
    closeKeys: "Cerrar",
    other: "¿Ninguna de estas? Escribe la categoría correcta",
    save: "Guardar",
    corrections: "Correcciones",
    kept: "Quedan en este navegador hasta que las quites.",
    download: "Descargar como CSV",
    clear: "Quitar todas",
    remove: "Quitar",
    removeOne: (title) => `Quitar la corrección de ${title}`,
    saved: (title, category) => `Guardada: ${title}, ${category}`,
    undone: (title) => `Se deshizo la corrección de ${title}.`,
    listAll: (count) => `Mostrar las ${count}`,
    clearAll: (count) => `¿Quitar las ${count} correcciones de esta lista?`,
    removed: (count) => `${count} ${count === 1 ? "corrección quitada" : "correcciones quitadas"}.`,
    undoRemoved: "Deshacer la eliminación",
    collected: (count, waiting) =>
      `El servicio reúne las correcciones. ${waiting ? `Faltan enviar: ${waiting}.` : count ? "Todas enviadas." : ""}`,
    answer: (category, share) => `${category}, ${share}`,
    reasonsFor: (words) => `A favor: ${words}.`,
    reasonsAgainst: (words) => `En contra: ${words}.`,
    views: "Vistas",
    single: "Un título",
    queue: "Lista de títulos",
    queueHeading: "Etiquetar y corregir títulos",
    queueFormats:
      "Abre un archivo de rubro audit o rubro next, o cualquier CSV con una columna de títulos. Queda en este navegador.",
    queueFile: "Archivo CSV (o suéltalo aquí)",
    progress: "Avance",
    progressed: (decided, all, skipped) => 
      `${decided} de ${all}${skipped ? `, ${skippedTitles(skipped)}` : ""}`,
    further: "Otras columnas",
    currentLabel: "Categoría actual",
    suggestedCategory: "Categoría sugerida",
    keep: "Mantener",
    change: "Cambiar",
    skip: "Saltar",
    undo: "Deshacer",
    search: "Otra categoría",
    choose: "Elegir",
    revisit: "Volver a los títulos saltados",
    close: "Cerrar el archivo",
    clearDecisions: "Quitar mis decisiones",
    clearConfirmed: (name) => `¿Quitar de este navegador todas las decisiones sobre ${name}?`,
    folder: "Copia el archivo descargado en data/corrections/ y ejecuta dvc repro.",
    wordsFor: (words) => `Palabras a favor de la sugerida: ${words}`,
    skipped: "saltado",
    decided: (title, decision) => `Guardado: ${title} → ${decision}.`,
    decidedBefore: (decision) => `Decidido antes: ${decision}`,
    done: (skipped) =>
      skipped
        ? `Todos los demás títulos están decididos; ${skippedTitles(skipped)}.`
        : "Todos los títulos están decididos. Descarga el archivo.",
    unknown: (names) => `El modelo no conoce estas categorías: ${names}.`,
    andMore: (count) => ` y ${count} más`,
    newCategory: (name) => `${name} es una categoría nueva. Presiona Enter otra vez para usarla.`,
    noCategory: (name) => `${name} no es una categoría conocida. Elige una de la lista.`,
    fullQueue: "Este navegador no puede guardar todas las decisiones. Descárgalas antes de salir.",
    csv: {
      largeFile: (size) => `El archivo supera ${size} MiB. Divídelo en varios archivos.`,
      notUtf8: () =>
        "El archivo no está codificado en UTF-8. Guárdalo como «CSV UTF-8» (no como hoja de cálculo) y ábrelo de nuevo.",
      unreadable: () => "El navegador no puede leer el archivo. Ábrelo de nuevo.",
      emptyFile: () => "El archivo está vacío. Necesita una primera línea con los nombres de sus columnas.",
      noRows: (found) => `El archivo solo contiene los nombres de sus columnas: ${found.join(", ")}.`,
      badQuote: (line) => `Línea ${line}: hay texto después de una comilla de cierre. Duplica las comillas de un campo.`,
      openQuote: (line) => `Línea ${line}: una comilla se abre y no se cierra. Agrega la comilla de cierre.`,
      longRow: (row, fields, columns) =>
        `La fila ${row} tiene ${fields} campos, pero solo hay ${columns} columnas. Pon entre comillas los campos con separadores.`,
      missingColumns: (missing, found) =>
        `Falta la columna ${missing.join(" y la columna ")}. Columnas encontradas: ${found.join(", ")}. Cambia sus nombres.`,
    },
    silent: "El servicio no responde.",
    full: "Este navegador no puede guardar correcciones. Descárgalas antes de salir.",
  },
};

let language = "en";

export const currentLanguage = () => language;
export const text = () => TEXTS[language];

// Returns a probability in percent. One that would be rounded to 0 % or 100 % is shown as below or above it.
export function percent(share) {
  const shown = (number) =>
    new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 }).format(number);
  if (share < 0.0005) return `<${shown(0.001)}`;
  if (share < 1 && share >= 0.9995) return `>${shown(0.999)}`;
  return shown(share);
}

// Shows the texts of index.html in a language.
export function useLanguage(chosen) {
  language = chosen;
  document.documentElement.lang = chosen;
  for (const each of document.querySelectorAll("[data-text]")) {
    each.textContent = text()[each.dataset.text];
  }
  for (const each of document.querySelectorAll("[data-label]")) {
    each.setAttribute("aria-label", text()[each.dataset.label]);
  }
}
