// Keys of one character. Whoever speaks to the computer sets them off unawares, so they can be switched off (WCAG 2.1.4).

import { storage } from "./kept.js";
import { byId } from "./parts.js";

const OFF = "searchanything-letter-keys-off"; // in this browser, for good
const browser = storage(() => localStorage);

export const letterKeys = {
  on: () => browser.get(OFF) === null,
  set(on) {
    browser.set(OFF, on ? null : "1");
    letterKeys.show();
  },
  /** Name no key that does nothing. */
  show() {
    document.body.classList.toggle("no-letter-keys", !letterKeys.on());
    if (letterKeys.on()) byId("help-button").setAttribute("aria-keyshortcuts", "?");
    else byId("help-button").removeAttribute("aria-keyshortcuts");
  },
};

addEventListener("storage", () => letterKeys.show()); // another tab has switched them
