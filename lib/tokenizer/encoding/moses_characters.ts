// The classes of characters by which Moses' rules go, as sacremoses has them: those of an older Unicode, none beyond the basic plane but some
// marks of Indic scripts, and neither Han nor Hangul among letters. Each is part of a class of a regular expression with the flag "v".

/** Letters of today's Unicode that are none there, in the basic plane. */
const newLetters =
  "\\u0363-\\u036f\\u0560\\u0588\\u05ef\\u0860-\\u086a\\u0870-\\u0887\\u0889-\\u088f\\u0897\\u08b3-\\u08c9\\u08d4-\\u08df\\u08e3\\u09fc" +
  "\\u0af9-\\u0afc\\u0c04\\u0c5a\\u0c5c-\\u0c5d\\u0c80\\u0cdc-\\u0cdd\\u0cf3\\u0d00\\u0d04\\u0d54-\\u0d56\\u0d5f\\u0d81\\u0e86\\u0e89\\u0e8c" +
  "\\u0e8e-\\u0e93\\u0e98\\u0ea0\\u0ea8-\\u0ea9\\u0eac\\u0f82-\\u0f83\\u1063-\\u1064\\u1069-\\u106d\\u1087-\\u108d\\u108f\\u109a-\\u109b" +
  "\\u13f5\\u13f8-\\u13fd\\u170d\\u171f\\u1878\\u1abf-\\u1ac0\\u1acc-\\u1ace\\u1b4c\\u1c36\\u1c80-\\u1c8a\\u1c90-\\u1cba\\u1cbd-\\u1cbf" +
  "\\u1cfa\\u1dd3-\\u1de6\\u2c2f\\u2c5f\\u3005\\u3007\\u3021-\\u3029\\u3038-\\u303b\\u312e-\\u312f\\u31bb-\\u31bf\\u3400-\\u4dbf" +
  "\\u4e00-\\u9fff\\ua69e\\ua78f\\ua7ae-\\ua7af\\ua7b2-\\ua7dc\\ua7f1-\\ua7f6\\ua802\\ua80b\\ua8c5\\ua8fd-\\ua8ff\\ua9e5\\uaa7b-\\uaa7d" +
  "\\uab60-\\uab63\\uab66-\\uab69\\uab70-\\uabbf\\uac00-\\ud7a3\\uf900-\\ufa6d\\ufa70-\\ufad9";

/** Marks that join Indic letters. */
const joiners =
  "\\u093c\\u094d\\u09bc\\u09cd\\u0a3c\\u0a4d\\u0abc\\u0acd\\u0afd-\\u0aff\\u0b3c\\u0b4d\\u0bcd\\u0c4d\\u0cbc\\u0ccd\\u0d3b-\\u0d3c" +
  "\\u0d4d\\u0dca\\u0eba\\u1039\\u1714\\u1bab\\u1c37\\ua8c4\\ua8f3-\\ua8f4\\ua953\\uaaf6\\u{10a3f}\\u{11046}\\u{110b9}-\\u{110ba}" +
  "\\u{11133}\\u{11173}\\u{111c0}\\u{111ca}\\u{11235}-\\u{11236}\\u{112e9}-\\u{112ea}\\u{1133c}\\u{1134d}\\u{11442}\\u{11446}" +
  "\\u{114c2}-\\u{114c3}\\u{115bf}-\\u{115c0}\\u{1163f}\\u{116b6}-\\u{116b7}\\u{11839}-\\u{1183a}\\u{119e0}\\u{11a34}\\u{11c3f}" +
  "\\u{11d42}\\u{11d45}\\u{11d97}\\u{1e94a}";

const newLowercase =
  "\\u0560\\u0588\\u10d0-\\u10fa\\u10fc-\\u10ff\\u1c8a\\u2c5f\\ua7af\\ua7b9\\ua7bb\\ua7bd\\ua7bf\\ua7c1\\ua7c3\\ua7c8\\ua7ca\\ua7cd\\ua7cf" +
  "\\ua7d1\\ua7d3\\ua7d5\\ua7d7\\ua7d9\\ua7db\\ua7f1-\\ua7f4\\ua7f6\\uab66-\\uab69\\u{10597}-\\u{105a1}\\u{105a3}-\\u{105b1}" +
  "\\u{105b3}-\\u{105b9}\\u{105bb}-\\u{105bc}\\u{10780}\\u{10783}-\\u{10785}\\u{10787}-\\u{107b0}\\u{107b2}-\\u{107ba}" +
  "\\u{10d70}-\\u{10d85}\\u{16e60}-\\u{16e7f}\\u{16ebb}-\\u{16ed3}\\u{1df00}-\\u{1df09}\\u{1df0b}-\\u{1df1e}\\u{1df25}-\\u{1df2a}" +
  "\\u{1e030}-\\u{1e06d}";

const basic = "[\\u0000-\\uffff]";
export const plainLetter = `[[\\p{Alphabetic}&&${basic}]--[${newLetters}]]\\u135f\\u25cc`;
export const letter = `${plainLetter}${joiners}`;
export const lowercase = `[\\p{Lowercase}--[${newLowercase}]]\\u0295\\u25cc`;
export const number = `[[\\p{N}&&${basic}]--[\\u0d58-\\u0d5e\\u0d76-\\u0d78\\u3007\\u3021-\\u3029\\u3038-\\u303a]]`;
export const letterOrDigit = `${letter}[\\p{Nd}&&${basic}]`;
export const currency = `[[\\p{Sc}&&${basic}]--[\\u07fe-\\u07ff\\u20be-\\u20c1]]`;
/** Python's white space. */
export const space = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
