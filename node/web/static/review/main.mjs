/** The review page: one study, from the first look to the signature. */

import { effect, html, render, untracked, useEffect } from "../vendor/preact.mjs";
import { lockState, startSession, may, me, prefers } from "../shared/session.mjs";
import { roving } from "../shared/keys.mjs";
import { Mark as Logo, Person, ageWords, dayWords, nameWords } from "../shared/chrome.mjs";
import * as at from "./store.mjs";
import * as act from "./actions.mjs";
import { arm, armAdd } from "./tools.mjs";
import { done, outbox, redo, reload, undo, undone } from "./changes.mjs";
import { Dialog } from "./dialogs.mjs";
import { onKeyDown, onKeyUp } from "./keymap.mjs";
import { isStanding } from "./looks.mjs";
import { Late } from "./late.mjs";
import { Mount } from "./mount.mjs";
import { Panel } from "./panel.mjs";
import { ReadOut, Stage } from "./stage.mjs";

function Page() {
	useEffect(follow, []);
	const study = at.study.value;
	return html`<div class=${`review panel-${prefers("panel")}`}>
		<a class="skip" href="#stage">Skip to the image</a>
		<${Head} study=${study} /><${Banners} study=${study} />
		<main class="desk"><h1 class="sr-only">Review</h1><${Mount} />
			<div class="middle"><${Stage} /><${Toolbar} /></div>
			<div class="sidewrap"><${Panel} /><${Late} name="Chart" /><${Late} name="Reading" />${(study.versions.length > 0 || study.receipts.length > 0) && html`<${Late} name="Receipts" load=${() => import("./receipts.mjs")} />`}</div></main>
		<${Foot} study=${study} />
		<${Dialog} />
	</div>`;
}

/** Fetch what is said of the study as a whole, live events and who else is here. */
function loadLate() {
	if (at.late.value.isLoading) return;
	at.late.value.isLoading = true;
	Promise.all([import("./reading.mjs"), import("./about.mjs"), import("../shared/live.mjs"), import("./presence.mjs"), import("./chart.mjs")]).then(
		([reading, about, live, presence, chart]) => {
			at.late.value = { ...at.late.value, ...reading, ...about, ...chart };
			listen(live);
			presence.attend();
		},
		() => (at.late.value = {}),
	);
}

/** Draw the study again when something happened to it. */
function listen(live) {
	let timer = 0;
	const soon = () => {
		clearTimeout(timer);
		timer = setTimeout(() => reload(), 300);
	};
	live.listen(at.study.value.last_seq, (event) => {
		if (event.kind === "resync" || event.study_id === at.study.value.id) soon();
	}, (state) => {
		if (state === "live" && at.liveState.value === "reconnecting") [soon(), outbox.flush()];
		at.liveState.value = state;
	});
}

/** Do what is seldom needed. */
async function remedy(name, ...given) {
	return (await import("./remedies.mjs"))[name](...given);
}

/** Listen to keys, as long as the page stands. */
function follow() {
	addEventListener("keydown", onKeyDown);
	addEventListener("keyup", onKeyUp);
	effect(() => {
		if (isStanding.value) loadLate();
	});
	effect(() => {
		if (at.selectedId.value && prefers("zooms_to_selection")) untracked(() => act.viewing.toSelection());
	});
	addEventListener("blur", () => (at.isBare.value = false));
	addEventListener("click", focusStage);
	addEventListener("beforeunload", warn);
	addEventListener("bitewing-unlocked", () => [reload(), outbox.flush()]);
}

/** A pointer click on a control gives the focus back to the stage, so that Space looks under at once. */
function focusStage(event) {
	const button = event.detail > 0 && event.target instanceof Element && event.target.closest(".review button");
	if (button && !event.target.closest("dialog, .popover, .person")) document.getElementById("stage").focus({ preventScroll: true });
}

function warn(event) {
	if (at.saving.value.count && lockState.value !== "locked") event.preventDefault();
}

function Head({ study }) {
	const { patient } = study;
	return html`<header class="topbar">
		<a class="brand" href="/" aria-label="Worklist" title="Worklist (Home)"><${Logo} /></a>
		<div class="who ellipsis"><strong>${nameWords(patient)}</strong>
			<span class="muted"> ${[ageWords(patient), patient?.sex].filter(Boolean).join("  ")}</span></div>
		<span class="muted nowrap">${study.label} · ${dayWords(study.study_date)}</span>
		${!study.match.is_certain && html`<span class="pill bad" title=${study.match.reason}>Patient not confirmed</span>`}
		${!study.match.is_certain && may("patients.link") && html`<button onClick=${() => remedy("link")}>Link patient</button>`}
		<span class="grow"></span>
		${at.others.value.map((other) => html`<span key=${other.name} class="pill warn" title="Decisions of two readers never overwrite each other.">${other.name} is here too${other.image_id ? `, ${at.imageWords(at.images.value.find((i) => i.id === other.image_id) ?? {}, true)}` : ""}</span>`)}
		${study.state === "signed"
			? html`<span class="pill good">Signed, version ${study.versions.at(-1)?.version}</span>`
			: html`<span class="pill warn">AI-assisted preliminary findings – sign-off required</span>`}
		<${Person} beforeSignOut=${() => remedy("clearOutbox")} onSettings=${() => (at.dialog.value = "Settings")} />
	</header>`;
}

function Banners({ study }) {
	const notice = at.notice.value;
	const failed = study.images.some((image) => image.state === "failed");
	const isSpecial = study.settings.mode === "silent" || ["receiving", "analysing"].includes(study.state);
	return html`<section class="banners" aria-label="Messages">
		${at.saving.value.kind === "offline" && html`<p class="notice warn" role="status">Offline. ${at.saving.value.count === 1 ? "1 change" : `${at.saving.value.count} changes`} kept here, will be sent.</p>`}
		${(isSpecial || failed || at.arrived.value.length > 0) && html`<${Late} name="Banners" load=${() => import("./banners.mjs")} study=${study} />`}
		${notice && html`<p class=${`notice ${notice.kind}`}><span>${notice.words}</span>
			${notice.next && html` <a class="button primary" ref=${takeFocus} href=${`/review/${notice.next}`}>Open next study <kbd>Enter</kbd></a>`}
			${notice.kind === "good" && html` <a class="button" href="/">Worklist</a>`}
			<button class="quiet" aria-label="Dismiss" onClick=${() => (at.notice.value = null)}>×</button></p>`}
	</section>`;
}

function takeFocus(link) {
	link?.focus();
}

function Toolbar() {
	const tool = at.tool.value;
	const button = (words, key, run, isPressed, index) => html`<button key=${words} class="quiet" tabindex=${index === 0 ? 0 : -1}
		aria-pressed=${isPressed === undefined ? undefined : String(isPressed)} onClick=${run} title=${`${words} (${key})`}>${words} <kbd>${key}</kbd></button>`;
	const isEditable = at.canDecide.value && may("findings.decide");
	const items = [
		["Window", "W", act.viewing.reset], ["Invert", "I", act.viewing.invert], ["Fit", "0", act.viewing.fit],
		["Zoom to", "Z", act.viewing.toSelection], ["Rotate", "R", act.viewing.rotate], ["Mirror", "H", act.viewing.mirror],
		["Sharpen", "S", () => act.toggle(at.isSharp, "Sharpened"), at.isSharp.value],
		["Measure", "M", () => arm("measure"), tool === "measure"],
		["Marks", "O", () => act.toggle(at.isOverlayOn, "Marks"), at.isOverlayOn.value],
		["Teeth", "U", () => act.toggle(at.showsTeeth, "Tooth numbers"), at.showsTeeth.value],
		...(isEditable ? [["Add missed", "N", armAdd, tool.startsWith("add-")]] : []),
	];
	return html`<div class="strip"><div class="toolbar" role="toolbar" aria-label="Tools" onKeyDown=${roving}>
		${items.map(([words, key, run, isPressed], index) => button(words, key, run, isPressed, index))}</div>
		<span class="grow"></span><${ReadOut} /></div>`;
}

const SAVING = { saved: ["Saved", "ok"], saving: ["Saving", "muted"], offline: ["Offline", "warning"] };

function Foot({ study }) {
	const [words, colour] = SAVING[at.saving.value.kind];
	const open = at.openCount.value;
	const isSigned = study.state === "signed";
	return html`<footer class="footline reviewfoot">
		<span class="hints"><kbd>A</kbd> accept <kbd>X</kbd> reject <kbd>J</kbd><kbd>K</kbd> next, previous <kbd>Space</kbd> look under <kbd>?</kbd> keys</span>
		<button class="quiet" disabled=${!done.value.length} onClick=${undo}>Undo <kbd>Ctrl+Z</kbd></button>
		<button class="quiet" disabled=${!undone.value.length} onClick=${redo}>Redo</button>
		<span class="grow"></span>
		${at.liveState.value === "reconnecting" && html`<span class="warning">reconnecting</span>`}
		<span class=${colour} id="saving">${words}${at.saving.value.count > 1 ? ` ${at.saving.value.count}` : ""}</span>
		${!isSigned && html`<span class=${open ? "warning" : "ok"} id="left">${open ? `${open} left` : "all decided"}</span>`}
		${may("findings.sign") && (isSigned
			? html`${may("findings.retract") && html`<button class="quiet" onClick=${() => (at.dialog.value = "Retract")}>Take back</button>`}
				<button onClick=${() => (at.dialog.value = "Amend")}>Amend</button>`
			: html`<button class=${open ? "" : "primary"} onClick=${act.openSign}>Sign <kbd>Ctrl+Enter</kbd></button>`)}
	</footer>`;
}

function begin() {
	startSession(at.start.me);
	at.takeStudy(at.start.study, () => false);
	const first = at.images.value.find((image) => image.grey) ?? at.images.value[0];
	if (first) act.showImage(first.id);
	outbox.open();
	document.title = `Review · ${me.value.settings.practice_name}`;
	render(html`<${Page} />`, document.getElementById("app"));
	if (first) document.getElementById("frame")?.classList.add("done");
	else document.getElementById("frame")?.remove();
}

if (at.start.me && at.start.study) {
	if (document.hidden) begin();
	else requestAnimationFrame(() => setTimeout(begin));
} else if (at.start.failure) {
	document.getElementById("frame").remove();
	render(html`<main class="over" role="alert"><h1>This study cannot be shown now</h1><p>${at.start.failure}</p>
		<div class="row"><a class="button primary" href=${location.pathname}>Try again</a><a class="button" href="/">Worklist</a></div></main>`, document.getElementById("app"));
} else if (at.start.me) {
	startSession(at.start.me); // the screen is locked: the study comes after the password
	addEventListener("bitewing-unlocked", () => location.reload());
}
