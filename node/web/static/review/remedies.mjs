/** What is seldom needed: accepting existing work together, linking a patient, analysing again, leaving nothing behind. */

import { batch } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { say } from "../shared/say.mjs";
import * as at from "./store.mjs";
import { change, leftWords, outbox, reload } from "./changes.mjs";

/** What a dentist put there; a disease is never accepted together with others. */
const EXISTING = new Set(["restoration", "crown", "root_filling", "post", "implant"]);

/** Accept the existing work that is marked on this image, together; one undo takes it back. */
export function acceptExisting() {
	if (!at.isOverlayOn.value) return say("Show the marks first: O.");
	const open = at.onImage.value.filter((f) => EXISTING.has(f.kind) && at.isOpen(f) && at.isShown(f));
	if (!open.length) return say("No existing work is left to accept on this image.");
	batch(() => open.every((finding, index) => change("accept", finding, {}, "", index > 0)));
	if (!at.isOpen(at.selected.value ?? {})) at.selectedId.value = (at.onImage.value.find((f) => at.isOpen(f) && at.isShown(f)) ?? at.selected.value).id;
	return say(`${open.length} marks of existing work accepted. ${leftWords()}`);
}

/** Ask whose images these are, as the worklist does. */
export async function link() {
	const { repairing } = await import("../worklist/repair.mjs");
	const { id, patient, match } = at.study.value;
	repairing.value = { id, patient, problems: [{ words: match.reason }] };
	at.dialog.value = "Repair";
}

/** Before signing out: send what is left, and keep nothing of this person. */
export async function clearOutbox() {
	if (at.saving.value.count) {
		const isSent = await Promise.race([outbox.flush().then(() => !at.saving.value.count), new Promise((r) => setTimeout(() => r(false), 3000))]);
		if (!isSent && !confirm("Some decisions could not be sent yet. Sign out and lose them?")) return false;
	}
	await outbox.clear();
	return true;
}

/** Analyse images again whose analysis failed. */
export async function retry(images) {
	try {
		for (const image of images) await call(`/api/images/${image.id}/retry`, { method: "POST" });
		say("Analysis started again.");
		reload();
	} catch (problem) {
		at.notice.value = { kind: "bad", words: problem.words };
	}
}
