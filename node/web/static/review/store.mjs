/** What the review page knows: the study as the server sent it, and where the reader stands. */

import { signal, computed, batch } from "../vendor/preact.mjs";
import { boot, call } from "../shared/api.mjs";
import { kindOf } from "../shared/kinds.mjs";
import { toothIn } from "../shared/teeth.mjs";
import { may, prefers } from "../shared/session.mjs";

export const start = boot();
/** The study without its findings' local changes. */
export const study = signal(start.study ?? null);
/** id -> finding, with the reader's changes applied before the server has answered. */
export const findings = signal(new Map((start.study?.findings ?? []).map((f) => [f.id, f])));
export const currentId = signal(null);
export const selectedId = signal(null);
export const isOverlayOn = signal(true);
export const isBare = signal(false);
/** Whether the stage shows the sharpened picture. */
export const isSharp = signal(false);
export const showsTeeth = signal(start.me?.preferences.shows_teeth ?? false);
export const showsRejected = signal(false);
export const hiddenLetters = signal(new Set());
export const listScope = signal("image");
export const stop = signal(start.me?.preferences.stop ?? "default");
/** Colleagues who have this study open too: {name, role, image_id}. */
export const others = signal([]);
/** window, edit, add-box, add-polygon, add-line, measure or calibrate. */
export const tool = signal("window");
/** {kind, ...}: class, tooth, depth, reason, comment, plan, goto or add. */
export const menu = signal(null);
/** A shape being drawn or edited: {id|null, geometry, handle}. */
export const draft = signal(null);
/** finding id -> {theirs, mine}: a conflict that waits for a choice. */
export const conflicts = signal(new Map());
export const saving = signal({ kind: "saved", count: 0 });
export const liveState = signal("connecting");
export const notice = signal(null); // {words, kind, action?}
/** Whether the reader has changed anything here; suggestions that come then wait to be asked for. */
export const isTouched = signal(false);
export const arrived = signal([]); // suggestions that came while reading
export const dialog = signal(null); // the name of a part in dialogs.mjs
/** Place in the reading's registrations of the tooth that the compare dialog shows. */
export const comparing = signal(null);
/** Parts of the page that its first picture need not wait for, by name. */
export const late = signal({});
export const seen = signal(new Set());
export const bareSeen = signal(new Set());

export const images = computed(() => study.value?.images ?? []);
export const current = computed(() => images.value.find((image) => image.id === currentId.value) ?? null);
export const selected = computed(() => findings.value.get(selectedId.value) ?? null);
export const STOPS = ["strict", "default", "wide"];
export const canDecide = computed(() => study.value.is_editable && (may("findings.decide") || may("findings.propose")));

/** Whether a suggestion still waits for a decision. */
export function isOpen(finding) {
	return finding.state === "suggested" && !finding.is_removed;
}

/** Whether a finding stands under the line of the sensitivity stop. */
export function isBelow(finding) {
	return isOpen(finding) && STOPS.indexOf(finding.stop) > STOPS.indexOf(stop.value);
}

/** Whether the finding counts as shown now. */
export function isShown(finding) {
	return !finding.is_removed && !isBelow(finding) && !hiddenLetters.value.has(finding.letter);
}

/** Whether it is drawn and stepped through too: rejected ones only on request. */
export function isListed(finding) {
	return isShown(finding) && (finding.state !== "rejected" || showsRejected.value);
}

/** Findings in reading order: image by image, open suggestions by their place, left to right. */
export const ordered = computed(() => {
	const place = new Map(images.value.map((image, index) => [image.id, index]));
	return [...findings.value.values()]
		.filter((finding) => !finding.is_removed && place.has(finding.image_id))
		.sort((a, b) => place.get(a.image_id) - place.get(b.image_id) || least(a, 0) - least(b, 0) || least(a, 1) - least(b, 1));
});

function least(finding, axis) {
	return Math.min(...finding.geometry.points.map((point) => point[axis]));
}

export const onImage = computed(() => ordered.value.filter((f) => f.image_id === currentId.value));
export const openCount = computed(() => ordered.value.filter(isOpen).length);
export const belowCount = computed(() => onImage.value.filter(isBelow).length);

/** How many open suggestions an image has. */
export function openOn(imageId) {
	return ordered.value.filter((f) => f.image_id === imageId && isOpen(f)).length;
}

/** A tooth in the reader's numbering. */
export function toothWords(code) {
	return toothIn(prefers("numbering"), code);
}

/** "Caries #14 D E2". */
export function findingWords(finding) {
	const kind = kindOf(finding.kind).words;
	return [kind, toothWords(finding.tooth), finding.surfaces, finding.depth].filter(Boolean).join(" ");
}

const VIEW_WORDS = { bitewing: "Bitewing", periapical: "Periapical", panoramic: "Panoramic", occlusal: "Occlusal", cephalometric: "Cephalogram", photo: "Photo", other: "Image" };
const VIEW_SHORT = { bitewing: "BW", periapical: "PA", panoramic: "PAN", occlusal: "OCC", cephalometric: "CEPH", photo: "PHOTO", other: "IMG" };

/** "Bitewing 2": the view and its place in the study. */
export function imageWords(image, isShort = false) {
	const index = images.value.indexOf(image) + 1;
	const words = (isShort ? VIEW_SHORT : VIEW_WORDS)[image.view ?? "other"];
	return images.value.length > 1 ? `${words} ${index}` : words;
}

/** The place of the mount where an image hangs, or undefined. */
export function slotOf(imageId) {
	return study.value.mount.rows.flat().find((slot) => slot.image_id === imageId);
}

/** Change what is known of one image. */
export function setImage(id, patch) {
	study.value = { ...study.value, images: images.value.map((image) => (image.id === id ? { ...image, ...patch } : image)) };
}

/** Put one finding in place. */
export function setFinding(finding) {
	const next = new Map(findings.value);
	next.set(finding.id, finding);
	findings.value = next;
}

/** Take over a fresh answer of the server; findings with unsent changes stay as they are. */
export function takeStudy(fresh, isPending) {
	const known = findings.value;
	const next = new Map();
	const held = [];
	for (const finding of fresh.findings) {
		if (isPending(finding.id) && known.has(finding.id)) next.set(finding.id, known.get(finding.id));
		else if (isTouched.value && !known.has(finding.id) && finding.origin === "ai" && isOpen(finding)) held.push(finding);
		else next.set(finding.id, finding);
	}
	for (const [id, finding] of known) if (!next.has(id) && isPending(id)) next.set(id, finding);
	batch(() => {
		study.value = fresh;
		findings.value = next;
		arrived.value = held;
		seen.value = new Set([...seen.value, ...fresh.images.filter((i) => i.is_seen).map((i) => i.id)]);
		bareSeen.value = new Set([...bareSeen.value, ...fresh.images.filter((i) => i.is_seen_bare).map((i) => i.id)]);
		if (!fresh.images.some((image) => image.id === currentId.value)) currentId.value = fresh.images[0]?.id ?? null;
	});
}

/** Ask the server for the study again. */
export async function refresh(isPending, isBackground = true) {
	const fresh = await call(`/api/studies/${study.value.id}`, { isBackground });
	takeStudy(fresh, isPending);
	return fresh;
}
