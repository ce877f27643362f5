/** Kinds of finding as people read them; values and letters are those of node/domain/findings.py. */

export const KINDS = [
	{ value: "caries", letter: "C", words: "Caries", shape: "box", isDisease: true },
	{ value: "bone_level", letter: "B", words: "Bone level", shape: "line", isDisease: true },
	{ value: "periapical_radiolucency", letter: "P", words: "Periapical radiolucency", shape: "box", isDisease: true },
	{ value: "calculus", letter: "K", words: "Calculus", shape: "box", isDisease: true },
	{ value: "restoration", letter: "R", words: "Restoration", shape: "box", isDisease: false },
	{ value: "other", letter: "O", words: "Other", shape: "box", isDisease: false },
	{ value: "crown", letter: "R", words: "Crown", shape: "box", isDisease: false },
	{ value: "root_filling", letter: "R", words: "Root filling", shape: "box", isDisease: false },
	{ value: "implant", letter: "O", words: "Implant", shape: "box", isDisease: false },
	{ value: "impacted_tooth", letter: "O", words: "Impacted tooth", shape: "box", isDisease: false },
	{ value: "recurrent_caries", letter: "C", words: "Recurrent caries", shape: "box", isDisease: true },
	{ value: "defective_margin", letter: "R", words: "Defective margin", shape: "box", isDisease: true },
	{ value: "post", letter: "R", words: "Post", shape: "box", isDisease: false },
	{ value: "root_remnant", letter: "O", words: "Root remnant", shape: "box", isDisease: true },
	{ value: "angular_defect", letter: "B", words: "Angular bone defect", shape: "box", isDisease: true },
	{ value: "furcation", letter: "B", words: "Furcation suspected", shape: "box", isDisease: true },
];
const byValue = new Map(KINDS.map((kind) => [kind.value, kind]));

/** The kind's description; an unknown kind reads as itself. */
export function kindOf(value) {
	return byValue.get(value) ?? { value, letter: "O", words: value.replaceAll("_", " "), shape: "box", isDisease: false };
}

/** Whether a depth may be given: caries, primary or recurrent. */
export const hasDepth = (kind) => kind === "caries" || kind === "recurrent_caries";

/** Kinds offered by the number keys of C and of the add menu. */
export const MENU = KINDS.slice(0, 6);

export const DEPTHS = [
	["E1", "outer enamel"], ["E2", "inner enamel"], ["D1", "outer dentine"],
	["D2", "middle dentine"], ["D3", "inner dentine"], ["P", "into the pulp"],
];

/** Reject reasons behind the keys 1 to 7; the value is stored. */
export const REASONS = [
	["cervical_burnout", "Cervical burnout"], ["restoration_material", "Restoration or material"],
	["overlap", "Overlap"], ["artefact_noise", "Artefact or noise"], ["normal_anatomy", "Normal anatomy"],
	["already_treated", "Already treated"], ["other", "Other"],
];

/** What a clinician intends; never preselected. */
export const DISPOSITIONS = [
	["watch", "Watch"], ["preventive", "Preventive"], ["restore", "Restore"], ["refer", "Refer"], ["none", "None"],
];

/** A score as a word and a number; the help text of every place that shows it. */
export function scoreWords(probability) {
	if (probability === null || probability === undefined) return "";
	const percent = Math.round(probability * 100);
	return `${percent >= 80 ? "strong" : percent >= 50 ? "medium" : "weak"} ${percent} %`;
}

export const SCORE_HELP =
	"How sure the model is, compared with its own other marks. It is not the chance of disease.";
