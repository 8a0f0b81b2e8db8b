// Where the keyboard goes on when what it was on is shown no more.

import { byId } from "./parts.js";
import { address, empty } from "./question.js";

/** The headline of an answer takes the focus of what `had` it, if that is shown no more. */
export function headed(had) {
  const now = document.activeElement;
  if (had !== document.body && (now === document.body || !now.checkVisibility())) byId("answers-title").focus({ preventScroll: true });
}

/** The focus comes to the link that led from here to the question that was `left`, or to a heading: of the image, if one is open. */
export function refocus(left, opened) {
  const now = document.activeElement;
  if (now !== document.body && now !== byId("stage-name") && now.checkVisibility()) return;
  const followed = [address(left), address({ ...empty(), image: left.image })];
  const link = [...document.querySelectorAll("a[data-go]")].find((one) => followed.includes(one.getAttribute("href")) && one.checkVisibility());
  const heading = document.body.dataset.view === "browse" ? "browse-title" : opened ? "stage-name" : "answers-title";
  (link || byId(heading)).focus({ preventScroll: true });
}
