/** A button that analyses one image again, and says what came of it. */

import { html, useState } from "../vendor/preact.mjs";
import { call } from "./api.mjs";

/** Analyse one image again. */
export function Retry({ id, onChanged }) {
  const [words, setWords] = useState("");
  const retry = async () => {
    try {
      const { attempt } = await call(`/api/images/${id}/retry`, { method: "POST" });
      setWords(`Started, attempt ${attempt}.`);
      onChanged?.();
    } catch (problem) {
      setWords(problem.words);
    }
  };
  return html`<button onClick=${retry}>Retry</button> <span role="status" class="muted">${words}</span>`;
}
