/** Whether the text names a time zone: an IANA name or `UTC`; offsets, `Local` and unknown names are none. */
export function isTimeZone(text: string): boolean {
  if (text.length > 64 || !/^[A-Za-z]/.test(text)) return false;
  try {
    return new Intl.DateTimeFormat("en", { timeZone: text }).resolvedOptions().timeZone !== "";
  } catch {
    return false; // The only failure is a RangeError for a name that is not known.
  }
}
