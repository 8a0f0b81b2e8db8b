// What the browser keeps for the page. Where it may keep nothing, the page does, until it is left.

const kept = new Map();

/** `where` is a function, as a browser that blocks storage throws where it is named; null: nothing is kept. */
export const storage = (where) => ({
  get(name) {
    try {
      return where().getItem(name);
    } catch {
      return kept.get(name) ?? null;
    }
  },
  set(name, value) {
    try {
      if (value === null) where().removeItem(name);
      else where().setItem(name, value);
    } catch {
      kept.set(name, value);
    }
  },
});
