# Prints predictions (the first file) beside what gpu_bench measured (the others), and the stage that it is nearest to.
# A record ends with a brace, so an entry may stand on one line or on many.
BEGIN { RS = "}" }

function text(name,   at) {
  if (!match($0, "\"" name "\": \"[^\"]*\"")) return ""
  at = length(name) + 5
  return substr($0, RSTART + at, RLENGTH - at - 1)
}
function number(name) {
  if (!match($0, "\"" name "\": [-+.0-9e]+")) return 0
  return substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 4) + 0
}
function key() {
  return text("part") "|" text("kernel") "|" text("model") "|" text("shape")
}

# Runs with a switch turned off are not what was predicted.
FNR == 1 { file++; apart = FILENAME ~ /model-(pdl0|graphs0)/ }
file == 1 && /"device": / && index(gpu, text("device")) {
  order[++count] = key()
  unit[count] = text("unit"); tolerance[count] = number("tolerance")
  for (i = 1; i <= split("direct ring triggers prefetch", stage, " "); i++) expected[count, i] = number(stage[i])
}
file > 1 && /"readBytesPerSecond"/ { read = number("readBytesPerSecond") }
file > 1 && /"kernel": / && !apart {
  us[key()] = number("microseconds"); tokens[key()] = number("tokensPerSecond")
  share[key()] = read > 0 && us[key()] > 0 ? 100 * number("bytes") / us[key()] * 1e6 / read : 0
}

END {
  if (!count) { print "None are for this GPU: " gpu; exit }
  printf "%-50s %10s %8s %8s %8s %8s %10s  %s\n", "", "unit", "direct", "ring", "triggers", "prefetch", "measured", ""
  for (c = 1; c <= count; c++) {
    found = unit[c] == "us" ? us[order[c]] : unit[c] == "tokens/s" ? tokens[order[c]] : share[order[c]]
    name = order[c]; gsub(/\|/, " ", name)
    verdict = "not measured"
    if (found > 0) {
      nearest = 1
      for (i = 2; i <= 4; i++) if (off(found, expected[c, i]) < off(found, expected[c, nearest])) nearest = i
      verdict = off(found, expected[c, nearest]) <= tolerance[c] / 100 ? "as " stage[nearest] : "MISSED"
    }
    printf "%-50s %10s %8g %8g %8g %8g %10s  %s\n", name, unit[c], expected[c, 1], expected[c, 2], expected[c, 3],
      expected[c, 4], (found > 0 ? sprintf("%.4g", found) : "-"), verdict
  }
  print "A miss means that the model behind the predictions is wrong, which is to be mended before more is built on it."
}
function off(found, wanted) { return found > wanted ? (found - wanted) / wanted : (wanted - found) / wanted }
