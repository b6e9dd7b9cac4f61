#!/bin/sh
# Runs the compiler given as arguments, and leaves what it says beside its output too: FILE.o gets FILE.o.log. Incremental
# builds compile a file once; what was said of it then is read much later.
output=
previous=
for argument in "$@"; do
  [ "$previous" = -o ] && output=$argument
  previous=$argument
done
log=${output:-/dev/null}
[ -n "$output" ] && log=$output.log
said=$("$@" 2>&1)
status=$?
printf '%s\n' "$said" | tee "$log"
[ $status -eq 0 ] || rm -f "$output.log"
exit $status
