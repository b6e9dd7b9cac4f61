import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

/** What validates values in the tests of grammars. */
export const ajv = new Ajv2020({ strict: false, allErrors: true, ownProperties: true });
addFormats.default(ajv);
for (const name of ["password", "path"]) ajv.addFormat(name, true);
// Its own divides doubles and finds that 8451204.27 is no multiple of 0.01.
ajv.removeKeyword("multipleOf");
ajv.addKeyword({
  keyword: "multipleOf",
  type: "number",
  validate: (step: number, value: number) => {
    const factor = value / step;
    return Math.abs(factor - Math.round(factor)) <= 1e-15 * Math.abs(factor);
  },
});
