/** Two people changed the same finding: both versions, and the choice. */

import { html } from "../vendor/preact.mjs";
import { timeWords } from "../shared/chrome.mjs";
import { say } from "../shared/say.mjs";
import * as at from "./store.mjs";
import { change } from "./changes.mjs";

const KIND_WORDS = { accept: "accepted", reject: "rejected", restore: "took a change back on" };

export function Conflict({ id, conflict: { theirs, mine } }) {
	const zone = at.study.value.settings.time_zone;
	const who = theirs.decided_by ?? "Somebody else";
	return html`<div class="notice warn conflict" role="alert">
		<p>${who} ${theirs.state === "suggested" ? "changed" : theirs.state} this at ${timeWords(theirs.decided_at, zone)}.
			You ${KIND_WORDS[mine.kind] ?? "changed"} it at ${timeWords(mine.at, zone)}.</p>
		<div class="row"><button onClick=${() => settle(id, "theirs")}>Keep ${theirs.decided_by ?? "theirs"}'s</button>
			<button onClick=${() => settle(id, "mine")}>Keep mine</button></div></div>`;
}

/** Settle a conflict: theirs stands, or the reader's operation is sent again on their revision. */
function settle(findingId, choice) {
	const { theirs, mine } = at.conflicts.value.get(findingId);
	const next = new Map(at.conflicts.value);
	next.delete(findingId);
	at.conflicts.value = next;
	if (choice !== "mine") return;
	if (mine.kind === "restore") say("Undo is not possible over another person's change.");
	else change(mine.kind, at.findings.value.get(findingId) ?? theirs, mine.data, "Kept yours.");
}
