/** Dark and light colors: the system's, or those that were chosen for this tab. */

const STORAGE_KEY = "audiocnn.theme";

export function startTheme(button) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    const theme = sessionStorage.getItem(STORAGE_KEY) ?? (dark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = theme;
    button.textContent = theme === "dark" ? "Light colors" : "Dark colors";
    document.dispatchEvent(new Event("themechange"));
  };
  button.addEventListener("click", () => {
    sessionStorage.setItem(STORAGE_KEY, document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    show();
  });
  dark.addEventListener("change", show);
  show();
}
