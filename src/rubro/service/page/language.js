// Texts of the page in each language.

const skippedTitles = (count) => `${count} ${count === 1 ? "saltado" : "saltados"}`;

export const TEXTS = {
  en: {
    language: "Language",
    title: "Product title",
    more: "More about the product",
    categories: "Categories",
    doubt: "Not sure: perhaps none of these is right.",
    sure: (path, share) => `Only certain about ${path}: ${share}`,
    right: "Right",
    isRight: (category) => `${category} is the right category`,
    other: "None of these? Enter the right category",
    save: "Save",
    corrections: "Corrections",
    kept: "They stay in this browser until you remove them.",
    download: "Download as CSV",
    clear: "Remove all",
    remove: "Remove",
    removeOne: (title) => `Remove the correction of ${title}`,
    saved: (title, category) => `Saved: ${title}, ${category}`,
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
    doubt: "Dudoso: quizás ninguna de estas sea la correcta.",
    sure: (path, share) => `Seguro solo hasta ${path}, ${share}`,
    right: "Correcta",
    isRight: (category) => `${category} es la categoría correcta`,
    other: "¿Ninguna de estas? Escribe la categoría correcta",
    save: "Guardar",
    corrections: "Correcciones",
    kept: "Quedan en este navegador hasta que las quites.",
    download: "Descargar como CSV",
    clear: "Quitar todas",
    remove: "Quitar",
    removeOne: (title) => `Quitar la corrección de ${title}`,
    saved: (title, category) => `Guardada: ${title}, ${category}`,
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
export const percent = (share) =>
  new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 }).format(share);

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
