/** Common English words: random prompts of servers without a tokenizer's routes, and where the token ids of others come from. */
export const commonWords: readonly string[] = `
the of and to in a is that for it as was with be by on not he his but at are this have from which one you were all her she there would
their we him been has when who will no more if out so up said what its about than into them can only other time new some could these two
may first then do any like my now over such our man me even most made after also well many must before back through years where much your
way down should because long each just state those people too little good world make very year still see work life men day under both water
another house own part us place house school never again old great off went come since against right came take used himself few use during
without home small around however upon going think left might every light night city point high far head side while public given face put
once until young business question set door order family power area large number country general company second among almost name story
open mind want always keep early field study road morning paper music letter river table garden winter summer window hand voice answer
heart market color horse stone field bridge island mountain engine machine number pattern figure result reason method system problem
control change action effect value measure weight speed sound color shape line circle square center corner surface material metal glass
silver golden narrow simple common certain several possible different important special perfect whole single double third fourth hundred
thousand million minute hour week month season history science language sentence chapter picture letter message report record program
member leader teacher doctor student worker farmer soldier captain brother sister mother father daughter husband neighbor stranger friend
`
  .trim()
  .split(/\s+/)
  .filter((word, i, words) => words.indexOf(word) === i);
