/** Light or dark: as the system has it, until the user chooses. */

const KEY = "edgetam-theme";

/** Takes the theme that was chosen earlier. */
export function recallTheme() {
  const chosen = stored();
  if (chosen) document.documentElement.dataset.theme = chosen;
}

/** Light in place of dark, or the other way round. */
export function switchTheme() {
  const { dataset } = document.documentElement;
  const isDark = dataset.theme ? dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  dataset.theme = isDark ? "light" : "dark";
  try {
    localStorage.setItem(KEY, dataset.theme);
  } catch {
    // a browser that keeps nothing forgets it with the page
  }
}

function stored() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}
