/** What a person chooses for their own screen: numbering, thresholds, layout, keys, a PIN. */

import { html, useEffect, useRef, useState } from "../vendor/preact.mjs";
import { call } from "./api.mjs";
import { combo } from "./keys.mjs";
import { say } from "./say.mjs";
import { me } from "./session.mjs";

const RESERVED = /^(Ctrl\+[TNWLRPFDACVXQ]|Ctrl\+Shift\+[TNWI]|Alt\+.*|Tab|Shift\+Tab|F\d+|Escape)$/;
const SWITCHES = [
	["reads_first", "Read first: marks stay off on each image you have not seen, until O"],
	["zooms_to_selection", "Zoom to each finding as it is selected"],
	["shows_teeth", "Tooth numbers on the image from the start"],
	["is_nearest", "No smoothing when the image is enlarged"],
	["sorts_by_urgency", "Worklist by urgency of the models' suggestions (each row says why)"],
	["has_single_keys", "Single letters are commands; off: only keys with Ctrl, arrows and named keys"],
];

/** `keys` are the commands of the page that can be given other keys; none elsewhere. */
export function Settings({ keys = [], onClosed }) {
	const dialog = useRef(null);
	const [draft, setDraft] = useState(me.value.preferences);
	const [words, setWords] = useState("");
	useEffect(() => dialog.current.showModal(), []);
	const set = (patch) => setDraft({ ...draft, ...patch });
	const clashes = clashesOf(keys, draft.keys);
	const keep = async (event) => {
		event.preventDefault();
		try {
			me.value = await call("/api/preferences", { body: draft });
			say("Settings kept.");
			dialog.current.close();
		} catch (problem) {
			setWords(problem.words);
		}
	};
	const choice = (name, legend, options) => html`<fieldset><legend>${legend}</legend><div class="row">${options.map(([value, label]) => html`<label key=${value}>
		<input type="radio" name=${name} checked=${draft[name] === value} onChange=${() => set({ [name]: value })} /> ${label}</label>`)}</div></fieldset>`;
	return html`<dialog class="settings" ref=${dialog} aria-labelledby="settings-title" onClose=${onClosed}>
		<header role="none"><h2 id="settings-title">Settings of ${me.value.display_name}</h2><span class="grow"></span>
			<button onClick=${() => dialog.current.close()}>Back <kbd>Esc</kbd></button></header>
		<div class="body"><form id="settings-form" onSubmit=${keep}>
			${choice("numbering", "Tooth numbers", [["universal", "Universal (#30)"], ["fdi", "FDI (46)"], ["palmer", "Palmer (LR6)"]])}
			${choice("stop", "Sensitivity at the start", [["strict", "Strict: strong ones"], ["default", "Default"], ["wide", "Wide: all that is kept"]])}
			<p class="muted">Suggestions below the line are hidden, still count as undecided, and are counted beside the control. The limits are those of the model card.</p>
			${choice("panel", "Findings beside the image", [["right", "Right"], ["left", "Left"]])}
			${SWITCHES.map(([name, label]) => html`<label class="row" key=${name}><input type="checkbox" checked=${draft[name]}
				onChange=${(event) => set({ [name]: event.target.checked })} /> ${label}</label>`)}
			${keys.length > 0 && html`<details><summary>Keys</summary><p class="muted">Go to a field and press the new key. Delete gives the usual one back.</p>
				<div class="keyfields">${keys.map((key) => html`<${KeyField} key=${key.id} command=${key} draft=${draft} set=${set} isClash=${clashes.has(key.id)} />`)}</div></details>`}
			${clashes.size > 0 && html`<p class="notice bad" role="alert">Two commands have the same key, or the browser needs it. Please change the marked ones.</p>`}
			${words && html`<p class="notice bad" role="alert">${words}</p>`}
		</form><${Pin} /></div>
		<footer role="none"><button type="button" onClick=${() => set({ numbering: "universal", stop: "default", panel: "right", keys: {}, ...Object.fromEntries(SWITCHES.map(([name]) => [name, name === "has_single_keys"])) })}>Usual settings</button>
			<span class="grow"></span><button class="primary" form="settings-form" disabled=${clashes.size > 0}>Keep</button></footer></dialog>`;
}

/** The commands whose key another has too, or that the browser keeps for itself. */
export function clashesOf(keys, chosen) {
	const by = new Map();
	for (const key of keys) for (const each of chosen[key.id] ? [chosen[key.id]] : key.usual ?? key.combos) by.set(each, [...(by.get(each) ?? []), key.id]);
	const doubled = [...by.values()].filter((ids) => ids.length > 1).flat();
	const kept = Object.entries(chosen).filter(([, each]) => RESERVED.test(each)).map(([id]) => id);
	return new Set([...doubled, ...kept]);
}

function KeyField({ command, draft, set, isClash }) {
	const { [command.id]: own, ...others } = draft.keys;
	const press = (event) => {
		if (["Tab", "Shift", "Control", "Alt", "Meta", "Escape", "Enter"].includes(event.key)) return;
		event.preventDefault();
		event.stopPropagation();
		set({ keys: event.key === "Delete" ? others : { ...others, [command.id]: combo(event) } });
	};
	return html`<label><span>${command.words}</span><input size="12" readonly value=${own ?? (command.usual ?? command.combos).join(" ")}
		aria-invalid=${String(isClash)} onKeyDown=${press} /></label>`;
}

function Pin() {
	const [words, setWords] = useState("");
	const keep = async (event) => {
		event.preventDefault();
		const form = event.currentTarget;
		const fields = new FormData(form);
		try {
			me.value = await call("/api/pin", { body: { password: fields.get("password"), pin: fields.get("pin") } });
			setWords(me.value.has_pin ? "Your PIN is kept." : "You have no PIN now.");
			form.reset();
		} catch (problem) {
			setWords(problem.words);
		}
	};
	return html`<form class="pin" onSubmit=${keep}><h3>PIN</h3>
		<p class="muted">6 to 12 digits: unlocks, signs and hands this workstation over to you. ${me.value.has_pin ? "You have one; an empty field takes it away." : "You have none."}</p>
		<div class="row"><label class="field">New PIN <input name="pin" type="password" inputmode="numeric" pattern="[0-9]{6,12}" maxlength="12" autocomplete="new-password" /></label>
			<label class="field">Your password <input name="password" type="password" required maxlength="256" autocomplete="current-password" /></label>
			<button>Change the PIN</button></div>
		<p role="status">${words}</p></form>`;
}
