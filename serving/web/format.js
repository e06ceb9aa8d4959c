/** Format values as text for people. */

/** Return a class name for people: `crackling_fire` becomes `crackling fire`. */
export function formatClass(name) {
  return name.replaceAll("_", " ");
}

/** Return a file name of at most 40 characters, with its beginning and its end. */
export function shortenFileName(name) {
  return name.length > 40 ? `${name.slice(0, 24)}…${name.slice(-15)}` : name;
}

/** Return a fraction, 0 to 1, as a percentage. */
export function formatPercent(fraction) {
  return `${(100 * fraction).toFixed(1)} %`;
}

/** Return a time in seconds as `h:mm:ss` or `m:ss`, and as `12.5 s` below one minute. */
export function formatTime(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const rounded = Math.round(seconds);
  const minutes = Math.floor(rounded / 60) % 60;
  const rest = String(rounded % 60).padStart(2, "0");
  const hours = Math.floor(rounded / 3600);
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}
