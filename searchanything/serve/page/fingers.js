// What points here. A screen with a mouse may be touched as well, and says so too seldom: the first touch does.

const hoverless = matchMedia("(hover: none)");
let wasTouched = false;

/** Whether anything can hover, as a mouse can. */
export const hovers = () => !hoverless.matches;
/** Whether fingers are to be reckoned with. */
export const touches = () => hoverless.matches || wasTouched;

function show() {
  document.body.classList.toggle("fingers", touches());
}

/** Show what fingers need from the start or, beside a mouse, from the first touch on. */
export function watchFingers() {
  show();
  hoverless.addEventListener("change", show);
  // not before the touch is over: nothing moves away from under the finger
  for (const over of ["click", "pointercancel"]) addEventListener(over, (event) => event.pointerType === "touch" && ((wasTouched = true), show()), true);
}
