/** The worklist: the reader's queue of studies, live. */

import { html, render, signal, computed, useEffect, useRef } from "../vendor/preact.mjs";
import { boot, call } from "../shared/api.mjs";
import { startSession, lockState, lock, may, me } from "../shared/session.mjs";
import { listen } from "../shared/live.mjs";
import { say } from "../shared/say.mjs";
import { combo, isTyping, isForControl, roving } from "../shared/keys.mjs";
import { Outbox } from "../shared/outbox.mjs";
import { Mark, Person, NOT_CLEARED, SILENT, nameWords } from "../shared/chrome.mjs";
import { Queue } from "./queue.mjs";
import { Problems, Repair, repairing } from "./repair.mjs";

const start = boot();
const list = signal(start.worklist);
const filter = signal(start.worklist?.filter ?? "to_review");
const text = signal("");
const chosen = signal(0);
const failure = signal("");
const liveState = signal("connecting");
const showsKeys = signal(false);
const settings = signal(null);
const what = signal("");
const WHAT = [["", "All images"], ["BW", "Bitewings"], ["PA", "Periapicals"], ["PAN", "Panoramics"]];

async function openSettings() {
	settings.value = (await import("../shared/preferences.mjs")).Settings;
}

const FILTERS = [
	["to_review", "To review"], ["today", "On today's schedule"], ["signed_today", "Signed today"], ["all", "All"], ["problems", "Problems"],
];
const KEYS = [
	{ combos: ["ArrowDown", "J"], words: "Next study", run: () => move(1) },
	{ combos: ["ArrowUp", "K"], words: "Previous study", run: () => move(-1) },
	{ combos: ["Enter"], words: "Open the chosen study", run: () => open(rows.value[chosen.value]) },
	{ combos: ["N"], words: "Open the next study to review", run: openNext },
	{ combos: ["/"], words: "Search", run: () => document.getElementById("search").focus() },
	{ combos: ["Shift+L"], words: "Lock this screen", run: lock },
	{ combos: ["?"], words: "Show the keys", run: () => (showsKeys.value = true) },
];
export { KEYS };

/** Rows that contain every word of the search: name, number, label, date. */
const rows = computed(() => {
	const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
	return (list.value?.rows ?? []).filter((row) => {
		const hay = `${nameWords(row.patient)} ${row.label} ${row.study_date} ${row.state} ${row.operatory}`.toLowerCase();
		if (what.value && !` ${row.label}`.includes(` ${what.value} `)) return false;
		return words.every((word) => hay.includes(word));
	});
});

let asked = 0;

/** Ask for the list; an answer that comes after a later question's is not shown. */
async function load(isBackground = false) {
	const mine = ++asked;
	try {
		const found = await call(`/api/worklist?filter=${filter.value}`, { isBackground });
		if (mine !== asked) return;
		list.value = found;
		failure.value = "";
		chosen.value = Math.min(chosen.value, Math.max(rows.value.length - 1, 0));
	} catch (problem) {
		if (mine === asked) failure.value = problem.words;
	}
}

function choose(value) {
	filter.value = value;
	chosen.value = 0;
	list.value = { ...list.value, rows: null };
	load();
}

function move(step) {
	chosen.value = Math.min(Math.max(chosen.value + step, 0), rows.value.length - 1);
	const row = rows.value[chosen.value];
	const link = row && document.getElementById(`row-${row.id}`);
	link?.focus({ preventScroll: true });
	link?.closest("tr, li")?.scrollIntoView({ block: "nearest" });
}

function open(row) {
	if (row) location.assign(`/review/${row.id}`);
}

function openNext() {
	const next = rows.value.find((row) => ["ready", "in_review", "ai_failed", "ai_off"].includes(row.state));
	if (next) open(next);
	else say("No study is waiting for review.");
}

function onKey(event) {
	if (lockState.value === "locked" || document.querySelector("dialog[open]")) return;
	const pressed = combo(event);
	if (isTyping(event.target)) {
		if (pressed === "Escape" || pressed === "ArrowDown") event.target.blur();
		if (pressed === "Escape") text.value = "";
		if (pressed === "ArrowDown") move(0);
		return;
	}
	if (isForControl(event)) return;
	const entry = KEYS.find((key) => key.combos.includes(pressed));
	if (!entry) return;
	event.preventDefault();
	entry.run();
}

function Page() {
	useEffect(() => {
		addEventListener("keydown", onKey);
		let timer = 0;
		const soon = () => {
			clearTimeout(timer);
			timer = setTimeout(() => load(true), 250);
		};
		const stop = listen(list.value?.last_seq, soon, (state) => {
			if (state === "live" && liveState.value === "reconnecting") soon();
			liveState.value = state;
		});
		const minute = setInterval(() => load(true), 60_000);
		addEventListener("bitewing-unlocked", () => load());
		if (!list.value) load();
		return () => [removeEventListener("keydown", onKey), stop(), clearInterval(minute)];
	}, []);
	const { counts } = list.value ?? {};
	return html`<div class="worklist">
		<a class="skip" href="#queue">Skip to the studies</a>
		<header class="topbar">
			<a class="brand" href="/"><${Mark} /> Bitewing</a>
			<span class="muted ellipsis">${start.practice_name}</span><span class="grow"></span>
			${may("findings.search") && html`<a class="button quiet" href="/search">Search findings</a>`}
			${may("workflows.see") && html`<a class="button quiet" href="/workflows">Workflows</a>`}
			${may("users.change") && html`<a class="button quiet" href="/people">People</a>`}
			${may("glass.review") && html`<a class="button quiet" href="/emergencies">Emergencies ${me.value.emergencies > 0 && html`<b class="warning">${me.value.emergencies} new</b>`}</a>`}
			<${Person} onSettings=${openSettings} />
		</header>
		<main>
			<h1 class="sr-only">Worklist</h1>
			${me.value.settings.mode === "silent" && html`<p class="notice warn bar">${SILENT}</p>`}
			<div class="tools">
				<label class="sr-only" for="search">Search patient, study or date</label>
				<input id="search" type="search" placeholder="Search patient, study, date  ( / )" autocomplete="off"
					value=${text.value} onInput=${(e) => ((text.value = e.target.value), (chosen.value = 0))} />
				<select aria-label="Kind of images" value=${what.value} onChange=${(e) => (what.value = e.target.value)}>
					${WHAT.map(([value, words]) => html`<option key=${value} value=${value}>${words}</option>`)}</select>
				<span class="grow"></span>
				<div class="tabs" role="tablist" aria-label="Studies" onKeyDown=${roving}>
					${FILTERS.map(([value, words]) => html`<button role="tab" key=${value} id=${`tab-${value}`}
						tabindex=${filter.value === value ? 0 : -1} aria-controls="queue"
						aria-selected=${String(filter.value === value)} onClick=${() => choose(value)}
						class=${value === "problems" && counts?.problems ? "has-problems" : ""}>
						${words} ${counts && html`<b>${counts[value]}</b>`}</button>`)}
				</div>
			</div>
			${failure.value && html`<div class="notice bad bar" role="alert"><span>${failure.value}</span>
				<button onClick=${() => load()}>Try again</button></div>`}
			<div class="scroll" id="queue" role="tabpanel" aria-labelledby=${`tab-${filter.value}`} tabindex="-1">
				${filter.value === "problems"
					? html`<${Problems} rows=${list.value?.rows ? rows.value : null} chosen=${chosen} onChanged=${load} />`
					: html`<${Queue} rows=${list.value?.rows ? rows.value : null} chosen=${chosen} open=${open}
							filter=${filter.value} text=${text.value} timeZone=${me.value.settings.time_zone} />`}
			</div>
		</main>
		<footer class="footline">
			<span><kbd>↑</kbd> <kbd>↓</kbd> choose</span><span><kbd>Enter</kbd> open</span>
			<span><kbd>N</kbd> next unread</span><span><kbd>/</kbd> search</span><span><kbd>?</kbd> keys</span>
			<span class="grow"></span><span>${NOT_CLEARED}</span>
			<span class=${liveState.value === "live" ? "ok" : "warning"} role="status">${liveState.value}</span>
		</footer>
		${settings.value && html`<${settings.value} onClosed=${() => ((settings.value = null), load())} />`}
		${repairing.value && html`<${Repair} onChanged=${load} />`}
		${showsKeys.value && html`<${Keys} />`}
	</div>`;
}

function Keys() {
	const dialog = useRef(null);
	useEffect(() => dialog.current.showModal(), []);
	return html`<dialog ref=${dialog} aria-labelledby="keys-title" onClose=${() => (showsKeys.value = false)}>
		<header role="none"><h2 id="keys-title">Keys</h2><span class="grow"></span>
			<button onClick=${() => dialog.current.close()}>Close</button></header>
		<div class="body keys">${KEYS.map((key) => html`<div><span>${key.combos.map((c) => html`<kbd>${c}</kbd> `)}</span>
			<span>${key.words}</span></div>`)}</div>
	</dialog>`;
}

/** Deliver decisions that an earlier page could not send. */
function sendLeftovers() {
	const outbox = new Outbox(me.value.user_id, {
		send: (study, operations) => call(`/api/studies/${study}/ops`, { body: { operations }, isBackground: true }),
		onResults: () => {},
		onRefused: (problem) => (failure.value = `A decision was not accepted: ${problem.words}`),
		onState: () => {},
	});
	outbox.open();
}

if (start.me) {
	startSession(start.me);
	sendLeftovers();
	render(html`<${Page} />`, document.getElementById("app"));
}
