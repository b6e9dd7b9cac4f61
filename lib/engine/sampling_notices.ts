import type { Logger } from "../base/logger.js";
import { describeBeams, describeSampling, type GenerationDefaults } from "./generation_defaults.js";
import type { GenerationOptions } from "./generation_options.js";

/** Options by which a caller chooses how to sample. */
const choices = ["generationDefaults", "temperature", "topK", "topP", "minP", "repetitionPenalty"] as const;

/** Says what a model's generation_config.json asks for and a call does not do. Each thing is said once an engine. */
export class SamplingNotices {
  readonly #logger: Logger | undefined;
  readonly #unfollowed: string;
  readonly #beams: string;
  /** Empty once it has been said. */
  #sampling: string;
  #toldUnfollowed: boolean;
  #toldBeams: boolean;

  constructor(defaults: GenerationDefaults, logger: Logger | undefined) {
    this.#logger = logger;
    this.#sampling = describeSampling(defaults) ?? "";
    this.#unfollowed = (defaults.unfollowed ?? []).join(", ");
    this.#toldUnfollowed = this.#unfollowed === "";
    this.#beams = describeBeams(defaults);
    this.#toldBeams = this.#beams === "";
  }

  /** For a call of generate() or stream(): where it chooses nothing that the model has an opinion of, and where it takes the model's. */
  tellBeforeGenerate(options: GenerationOptions = {}): void {
    if (options.generationDefaults === "model") {
      this.tellUnfollowed();
      if (options.numBeams === undefined) this.#tellBeams();
    }
    if (this.#sampling === "" || choices.some((name) => options[name] !== undefined)) return;
    const sampling = this.#sampling;
    this.#sampling = "";
    this.#logger?.warn(
      `The model's generation_config.json says ${sampling}, which generate() and stream() do not follow by themselves: ` +
        'pass generationDefaults: "model" to take it, or "none" to hear no more of it',
    );
  }

  /** For a call that takes all that the model says. */
  tellUnfollowed(): void {
    if (this.#toldUnfollowed) return;
    this.#toldUnfollowed = true;
    this.#logger?.warn(
      `The model's generation_config.json says ${this.#unfollowed}, which transformers follows and this engine does not: other text comes ` +
        "out. Remove that from the file if it is not needed",
    );
  }

  #tellBeams(): void {
    if (this.#toldBeams) return;
    this.#toldBeams = true;
    this.#logger?.warn(
      `The model's generation_config.json says ${this.#beams}, which module.generate follows; generate() and stream() do not, as no beam search ` +
        "can be streamed. Pass numBeams to generate()",
    );
  }
}
