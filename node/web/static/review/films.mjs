/** Changes of a film rather than a finding: its scale, its place on the mount; undone by their inverse. */

import { outbox, noteChange, reload } from "./changes.mjs";
import { newOpId } from "../shared/outbox.mjs";
import { alarm, say } from "../shared/say.mjs";
import { may, me } from "../shared/session.mjs";
import * as at from "./store.mjs";

/** Send one operation on a film, and remember what takes it back. */
function send(kind, data, back, words) {
	const op = () => ({ op_id: newOpId(), kind, finding_id: null, base_rev: null, data, at: new Date().toISOString() });
	outbox.add(at.study.value.id, op());
	noteChange(words, back);
	say(words);
}

/** Scale the image by a line of known length; without one the scale is taken away. */
export function calibrate(points, knownMm) {
	const image = at.current.value;
	if (!at.canDecide.value) return alarm("This study cannot be changed now.");
	const before = image.calibration;
	const length = points && Math.hypot(points[1][0] - points[0][0], points[1][1] - points[0][1]);
	at.setImage(image.id, { calibration: points && { mm_per_px: knownMm / length, known_mm: knownMm, points, by: me.value.display_name, at: new Date().toISOString() } });
	const back = () => [at.currentId.value = image.id, calibrate(before?.points ?? null, before?.known_mm ?? null)];
	return send("calibrate", { image_id: image.id, points, known_mm: knownMm }, back, points ? `Calibrated: ${knownMm} mm.` : "Calibration removed.");
}

/** How an image hangs, as people said. */
export function hangOf(imageId) {
	return at.study.value.mount.hangs.find((hang) => hang.image_id === imageId)
		?? { image_id: imageId, slot: at.slotOf(imageId)?.code ?? "", quarter_turns: 0, is_mirrored: false, by: null };
}

/** Put an image at a place (empty: at none) and say how it hangs there. */
export function place(imageId, patch) {
	if (!may("images.mount")) return alarm("You need the right: place images on the mount.");
	const before = hangOf(imageId);
	const next = { ...before, ...patch };
	const { mount } = at.study.value;
	const rows = mount.rows.map((row) => row.map((slot) => {
		if (slot.code === next.slot) return { ...slot, image_id: imageId, placed_by: me.value.display_name };
		return slot.image_id === imageId ? { ...slot, image_id: null, placed_by: null } : slot;
	}));
	const filled = new Set(rows.flat().map((slot) => slot.image_id).filter(Boolean));
	const hangs = [...mount.hangs.filter((hang) => hang.image_id !== imageId), { ...next, by: me.value.display_name }]
		.map((hang) => (hang.image_id !== imageId && next.slot && hang.slot === next.slot ? { ...hang, slot: "" } : hang));
	at.study.value = { ...at.study.value, mount: { ...mount, rows, hangs, loose: at.images.value.map((image) => image.id).filter((id) => !filled.has(id)) } };
	const { slot, quarter_turns, is_mirrored } = next;
	return send("place", { image_id: imageId, slot, quarter_turns, is_mirrored }, () => place(imageId, before), slot ? "Image placed." : "Image put aside.");
}

/** Mount the study by a template, loose, or as the models say (empty); the node lays the images out. */
export function mountAs(template, words) {
	if (!may("images.mount")) return alarm("You need the right: place images on the mount.");
	const before = at.study.value.mount.chosen;
	send("template", { template }, () => mountAs(before, "Mounted as before."), words);
	return outbox.settled().then(() => reload());
}

/** Put an image where another hangs: the two change places. */
export function swap(imageId, code) {
	const there = at.study.value.mount.rows.flat().find((slot) => slot.code === code)?.image_id;
	const from = at.slotOf(imageId)?.code ?? "";
	if (there === imageId) return;
	place(imageId, { slot: code });
	if (there) place(there, { slot: from });
}
