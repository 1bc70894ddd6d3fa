#!/bin/sh
# Fetches the programs that draw Vega-Lite charts, at these versions, from the npm registry. Run it in this directory.
set -eu
vega=6.4.0 lite=6.5.0 interpreter=2.3.2

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
(cd "$tmp" && npm pack --silent "vega@$vega" "vega-lite@$lite" "vega-interpreter@$interpreter" >/dev/null)
unpack() { tar -xzOf "$tmp/$1.tgz" "package/$2"; }

unpack "vega-$vega" build/vega.min.js | sed '/^\/\/# sourceMappingURL=/d' >vega.min.js
unpack "vega-lite-$lite" build/vega-lite.min.js | sed '/^\/\/# sourceMappingURL=/d' >vega-lite.min.js
# The interpreter comes as a module only. What it imports is in vega too, and what it exports becomes a global name.
{
	echo '"use strict";var vegaInterpreter=(function(){'
	unpack "vega-interpreter-$interpreter" build/vega-interpreter.js |
		sed -e "s/^import {\(.*\)} from 'vega-util';/const {\1} = vega;/" \
			-e 's/^export { expression as expressionInterpreter };/return {expressionInterpreter: expression};/' \
			-e '/^\/\/# sourceMappingURL=/d'
	echo '})();'
} >vega-interpreter.js
unpack "vega-$vega" LICENSE >LICENSE.vega
unpack "vega-lite-$lite" LICENSE >LICENSE.vega-lite
unpack "vega-interpreter-$interpreter" LICENSE >LICENSE.vega-interpreter
