package flow_test

import (
	"context"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/flow"
)

type (
	name    string
	level   int8
	flagged bool
	ratio   float32
	wait    time.Duration
	labels  []string
	point   struct{ X, Y int }
)

// kinds has a parameter of every kind, plain and named.
type kinds struct {
	S    string             `param:"s"`
	B    bool               `param:"b"`
	I    int                `param:"i"`
	I8   int8               `param:"i8"`
	I16  int16              `param:"i16"`
	I32  int32              `param:"i32"`
	I64  int64              `param:"i64"`
	U    uint               `param:"u"`
	U8   uint8              `param:"u8"`
	U16  uint16             `param:"u16"`
	U32  uint32             `param:"u32"`
	U64  uint64             `param:"u64"`
	F32  float32            `param:"f32"`
	F64  float64            `param:"f64"`
	D    time.Duration      `param:"d"`
	T    time.Time          `param:"t"`
	Sl   []int              `param:"sl"`
	Ar   [2]int             `param:"ar"`
	M    map[string]int     `param:"m"`
	St   point              `param:"st"`
	By   []byte             `param:"by"`
	Deep map[string][]point `param:"deep"`

	NS name    `param:"ns"`
	NB flagged `param:"nb"`
	NI level   `param:"ni"`
	NF ratio   `param:"nf"`
	ND wait    `param:"nd"`
	NL labels  `param:"nl"`

	NotAParam int
}

func flowOf[S any]() *flow.Flow {
	return flow.New("F", flow.Step("a", func(context.Context, *S) error { return nil }))
}

func TestParamKinds(t *testing.T) {
	t.Parallel()
	f := flowOf[kinds]()
	require.NoError(t, f.Check())
	for _, test := range []struct {
		param string
		kind  flow.ParamKind
		good  map[string]any // value by text
		bad   map[string]string
	}{
		{"s", flow.ParamString, map[string]any{"": "", " a\n": " a\n", "é": "é", "\xff": "\xff"}, nil},
		{"b", flow.ParamBool, map[string]any{"true": true, "false": false, "1": true, "0": false, "T": true, "FALSE": false},
			map[string]string{"": `"" is not a bool (true or false)`, "yes": `"yes" is not a bool (true or false)`, " true": "is not a bool"}},
		{"i", flow.ParamInt, map[string]any{"0": 0, "-7": -7, "+7": 7, "010": 10, "9223372036854775807": math.MaxInt64},
			map[string]string{"": `"" is not a decimal integer of 64 bits`, "0x10": `"0x10" is not a decimal integer`, "1_000": "is not", "1.0": "is not", "1e3": "is not", " 1": "is not", "9223372036854775808": "is not a decimal integer of 64 bits", "٣": "is not"}},
		{"i8", flow.ParamInt, map[string]any{"-128": int8(-128)}, map[string]string{"128": `"128" is not a decimal integer of 8 bits`}},
		{"i16", flow.ParamInt, map[string]any{"32767": int16(32767)}, map[string]string{"32768": "of 16 bits"}},
		{"i32", flow.ParamInt, map[string]any{"-2147483648": int32(math.MinInt32)}, map[string]string{"2147483648": "of 32 bits"}},
		{"i64", flow.ParamInt, map[string]any{"-9223372036854775808": int64(math.MinInt64)}, map[string]string{"x": "of 64 bits"}},
		{"u", flow.ParamInt, map[string]any{"010": uint(10)}, map[string]string{"-1": `"-1" is not a non-negative decimal integer of 64 bits`, "+1": "is not"}},
		{"u8", flow.ParamInt, map[string]any{"255": uint8(255)}, map[string]string{"256": `"256" is not a non-negative decimal integer of 8 bits`}},
		{"u16", flow.ParamInt, map[string]any{"65535": uint16(65535)}, map[string]string{"65536": "of 16 bits"}},
		{"u32", flow.ParamInt, map[string]any{"4294967295": uint32(math.MaxUint32)}, map[string]string{"4294967296": "of 32 bits"}},
		{"u64", flow.ParamInt, map[string]any{"18446744073709551615": uint64(math.MaxUint64)}, map[string]string{"18446744073709551616": "of 64 bits"}},
		{"f32", flow.ParamFloat, map[string]any{"0.5": float32(0.5), "1e10": float32(1e10)}, map[string]string{"1e39": `"1e39" is not a number of 32 bits`}},
		{"f64", flow.ParamFloat, map[string]any{"-0.25": -0.25, "1e300": 1e300, "Inf": math.Inf(1), "-inf": math.Inf(-1), "3": 3.0},
			map[string]string{"": `"" is not a number of 64 bits`, "1e400": "is not a number", "0,5": "is not", "half": "is not"}},
		{"d", flow.ParamDuration, map[string]any{"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "0": time.Duration(0), "-1ms": -time.Millisecond},
			map[string]string{"": "is not a duration", "90": `"90" is not a duration (like 90s, 5m or 1h30m)`, "1 s": "is not"}},
		{"t", flow.ParamTime, map[string]any{"2026-01-31T12:00:00Z": time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), "2026-01-31T12:00:00.5Z": time.Date(2026, 1, 31, 12, 0, 0, 5e8, time.UTC)},
			map[string]string{"": "is not a time", "2026-01-31": `"2026-01-31" is not a time (like 2026-01-31T12:00:00Z)`, "now": "is not"}},
		{"sl", flow.ParamJSON, map[string]any{"[1,2]": []int{1, 2}, "[]": []int{}, "null": []int(nil), " [1] \n": []int{1}},
			map[string]string{"": `"" is not JSON for []int: EOF`, "1,2": "is not JSON", "[1] [2]": "something follows the value", "[1]x": "something follows the value", "[1": "unexpected EOF", "[1.5]": "cannot unmarshal", `["1"]`: "cannot unmarshal"}},
		{"ar", flow.ParamJSON, map[string]any{"[1,2]": [2]int{1, 2}}, map[string]string{"{}": "cannot unmarshal object"}},
		{"m", flow.ParamJSON, map[string]any{`{"a":1}`: map[string]int{"a": 1}}, map[string]string{"[]": "is not JSON for map[string]int"}},
		{"st", flow.ParamJSON, map[string]any{`{"X":1,"y":2}`: point{1, 2}, "{}": point{}}, map[string]string{`{"Z":1}`: `unknown field "Z"`}},
		{"by", flow.ParamJSON, map[string]any{`"aGk="`: []byte("hi")}, map[string]string{"hi": "is not JSON for []uint8"}},
		{"deep", flow.ParamJSON, map[string]any{`{"a":[{"X":1}]}`: map[string][]point{"a": {{X: 1}}}}, map[string]string{`{"a":{}}`: "is not JSON"}},
		{"ns", flow.ParamString, map[string]any{"x": name("x")}, nil},
		{"nb", flow.ParamBool, map[string]any{"true": flagged(true)}, map[string]string{"2": "is not a bool"}},
		{"ni", flow.ParamInt, map[string]any{"-128": level(-128)}, map[string]string{"-129": "of 8 bits"}},
		{"nf", flow.ParamFloat, map[string]any{"0.5": ratio(0.5)}, map[string]string{"1e39": "of 32 bits"}},
		{"nd", flow.ParamInt, map[string]any{"90": wait(90)}, map[string]string{"90s": "is not a decimal integer"}},
		{"nl", flow.ParamJSON, map[string]any{`["a"]`: labels{"a"}}, map[string]string{"a": "is not JSON for flow_test.labels"}},
	} {
		t.Run(test.param, func(t *testing.T) {
			t.Parallel()
			for text, want := range test.good {
				values, err := f.ResolveParams(map[string]string{test.param: text}, nil)
				require.NoError(t, err, "%q", text)
				require.Equal(t, map[string]string{test.param: text}, values, "values travel as the text they were given as")
				s := f.NewState()
				require.NoError(t, f.SetParams(s, values))
				field, ok := f.Schema().Field(test.param)
				require.True(t, ok)
				require.Equal(t, want, field.Value(s).Interface(), "%q", text)
			}
			for text, want := range test.bad {
				_, err := f.ResolveParams(map[string]string{test.param: text}, nil)
				require.ErrorContains(t, err, want, "%q", text)
				require.ErrorContains(t, err, `parameter "`+test.param+`": `)
				require.ErrorContains(t, f.SetParams(f.NewState(), map[string]string{test.param: text}), want)
			}
			for _, p := range f.Params() {
				if p.Name == test.param {
					require.Equal(t, test.kind, p.Kind)
				}
			}
		})
	}
	require.Len(t, f.Params(), 28)

	values, err := f.ResolveParams(map[string]string{"f64": "NaN"}, nil)
	require.NoError(t, err)
	s := f.NewState().(*kinds)
	require.NoError(t, f.SetParams(s, values))
	require.True(t, math.IsNaN(s.F64), "artifacts keep NaN, so parameters may be it")
}

type params struct {
	Alpha  float64 `param:"alpha" default:"0.5" help:"learning rate"`
	APIKey string  `param:"api_key" required:"true"`
	DryRun bool    `param:"dry-run"`
	Name   string  `param:"name" default:""`
	Labels labels  `param:"labels" default:"[\"a\"]" required:"false"`
}

// env is a lookup in a map.
func env(vars map[string]string) func(string) (string, bool) {
	return func(key string) (string, bool) { v, ok := vars[key]; return v, ok }
}

func TestParams(t *testing.T) {
	t.Parallel()
	half, empty, list := "0.5", "", `["a"]`
	require.Equal(t, []flow.Param{
		{Name: "alpha", Kind: flow.ParamFloat, Default: &half, Help: "learning rate"},
		{Name: "api_key", Kind: flow.ParamString, Required: true},
		{Name: "dry-run", Kind: flow.ParamBool},
		{Name: "name", Kind: flow.ParamString, Default: &empty},
		{Name: "labels", Kind: flow.ParamJSON, Default: &list},
	}, flowOf[params]().Params())
	require.Equal(t, "STEPWELL_RUN_DRY_RUN", flow.Param{Name: "dry-run"}.Env())
	require.Equal(t, "STEPWELL_RUN_API_KEY", flow.Param{Name: "api_key"}.Env())
	require.Empty(t, flowOf[state]().Params())
}

func TestResolveParams(t *testing.T) {
	t.Parallel()
	f := flowOf[params]()
	require.NoError(t, f.Check())
	type texts = map[string]string
	defaults := func(more texts) texts {
		all := texts{"alpha": "0.5", "api_key": "k", "name": "", "labels": `["a"]`}
		maps.Copy(all, more)
		return all
	}
	for _, test := range []struct {
		name       string
		given, env texts
		want       texts
		mistakes   []string
	}{
		{name: "defaults; no default, not required: left out", given: texts{"api_key": "k"}, want: defaults(nil)},
		{name: "environment beats default", given: texts{"api_key": "k"}, env: texts{"STEPWELL_RUN_ALPHA": "0.7"}, want: defaults(texts{"alpha": "0.7"})},
		{name: "given beats environment", given: texts{"api_key": "k", "alpha": "0.9"}, env: texts{"STEPWELL_RUN_ALPHA": "0.7"}, want: defaults(texts{"alpha": "0.9"})},
		{name: "given beats an environment that is wrong", given: texts{"api_key": "k", "alpha": "0.9"}, env: texts{"STEPWELL_RUN_ALPHA": "x"}, want: defaults(texts{"alpha": "0.9"})},
		{name: "required from the environment", env: texts{"STEPWELL_RUN_API_KEY": "k", "STEPWELL_RUN_DRY_RUN": "1"}, want: defaults(texts{"dry-run": "1"})},
		{name: "- and _ are the same", given: texts{"api-key": "k", "dry_run": "true"}, want: defaults(texts{"dry-run": "true"})},
		{name: "an empty text is a text", given: texts{"api_key": ""}, want: defaults(texts{"api_key": ""})},
		{name: "an empty variable is not set", given: texts{"api_key": "k"}, env: texts{"STEPWELL_RUN_ALPHA": "", "STEPWELL_RUN_NAME": "", "STEPWELL_RUN_DRY_RUN": ""}, want: defaults(nil)},
		{name: "an empty variable does not do for a required one", env: texts{"STEPWELL_RUN_API_KEY": ""}, mistakes: []string{
			`parameter "api_key" is required (set --api-key or STEPWELL_RUN_API_KEY)`}},
		{name: "variables of others", given: texts{"api_key": "k"}, env: texts{"ALPHA": "9", "METAFLOW_RUN_ALPHA": "9"}, want: defaults(nil)},
		{name: "names keep their case", given: texts{"api_key": "k", "Alpha": "1"}, mistakes: []string{
			`flow "F" has no parameter "Alpha" (it has alpha, api_key, dry-run, name, labels)`}},
		{name: "given twice", given: texts{"api_key": "k", "api-key": "l"}, mistakes: []string{
			`parameter "api_key" is given twice, as ["api-key" "api_key"] (- and _ count as the same)`}},
		{name: "everything that is wrong", given: texts{"alpha": "x", "zeta": "1", "eta-1": "1", "eta_1": "2", "labels": "a"}, env: texts{"STEPWELL_RUN_DRY_RUN": "maybe"}, mistakes: []string{
			`parameter "alpha": "x" is not a number of 64 bits`,
			`parameter "api_key" is required (set --api-key or STEPWELL_RUN_API_KEY)`,
			`environment variable STEPWELL_RUN_DRY_RUN: "maybe" is not a bool (true or false)`,
			`parameter "labels": "a" is not JSON for flow_test.labels: invalid character 'a' looking for beginning of value`,
			`flow "F" has no parameter "eta-1" (it has alpha, api_key, dry-run, name, labels)`,
			`flow "F" has no parameter "eta_1" (it has alpha, api_key, dry-run, name, labels)`,
			`flow "F" has no parameter "zeta" (it has alpha, api_key, dry-run, name, labels)`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for range 5 { // maps have no order, errors do
				values, err := f.ResolveParams(test.given, env(test.env))
				if test.mistakes != nil {
					require.EqualError(t, err, strings.Join(test.mistakes, "\n"))
					require.Nil(t, values)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, test.want, values)
			}
		})
	}
	_, err := flowOf[state]().ResolveParams(map[string]string{"x": "1"}, nil)
	require.EqualError(t, err, `flow "F" has no parameter "x" (it takes none)`)
}

func TestSetParams(t *testing.T) {
	t.Parallel()
	f := flowOf[params]()
	s := &params{Alpha: 1, DryRun: true, Name: "before", Labels: labels{"b"}}
	require.NoError(t, f.SetParams(s, map[string]string{"alpha": "2", "name": "", "not_a_parameter": "x"}))
	require.Equal(t, &params{Alpha: 2}, s, "a parameter without a value is zero, whatever was there")
	require.EqualError(t, f.SetParams(s, map[string]string{"alpha": "x", "dry-run": "y"}),
		"parameter \"alpha\": \"x\" is not a number of 64 bits\nparameter \"dry-run\": \"y\" is not a bool (true or false)")

	// Two states share nothing.
	values := map[string]string{"labels": `["a"]`}
	var one, two params
	require.NoError(t, f.SetParams(&one, values))
	require.NoError(t, f.SetParams(&two, values))
	one.Labels[0] = "changed"
	require.Equal(t, labels{"a"}, two.Labels)
}

// Embedded structs lend their fields, parameters included.
func TestParamsOfEmbeddedStructs(t *testing.T) {
	t.Parallel()
	type common struct {
		Seed int `param:"seed" default:"7"`
	}
	type embedding struct {
		common
		Out int
	}
	f := flowOf[embedding]()
	require.NoError(t, f.Check())
	require.Equal(t, "seed", f.Params()[0].Name)
	s := f.NewState().(*embedding)
	require.NoError(t, f.SetParams(s, map[string]string{"seed": "9"}))
	require.Equal(t, 9, s.Seed)
}

func TestReservedParamNames(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		flowOf[struct {
			A string `param:"help"`
		}]().Check(),
		flowOf[struct {
			A string `param:"run-id"`
		}]().Check(),
		flowOf[struct {
			A string `param:"task_queue"`
		}]().Check(),
		flowOf[struct {
			A string `param:"json"`
		}]().Check(),
	} {
		require.ErrorContains(t, err, "the name is a flag of the run command (choose another)")
	}
	require.NoError(t, flowOf[struct {
		A string `param:"runid"`
		B string `param:"steps"`
	}]().Check())
}

// What resolves can be set, and resolves to itself: runs keep parameters as texts.
func TestResolvedParamsResolve(t *testing.T) {
	t.Parallel()
	f := flowOf[kinds]()
	all := f.Params()
	rapid.Check(t, func(t *rapid.T) {
		given := map[string]string{}
		for range rapid.IntRange(0, 5).Draw(t, "n") {
			p := rapid.SampledFrom(all).Draw(t, "param")
			given[p.Name] = rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"1", "true", "1.5", "2s", "[]", "{}", "null", "2026-01-31T12:00:00Z"})).Draw(t, "text")
		}
		values, err := f.ResolveParams(given, nil)
		if err != nil {
			return
		}
		require.Equal(t, given, values)
		require.NoError(t, f.SetParams(f.NewState(), values))
		again, err := f.ResolveParams(values, nil)
		require.NoError(t, err)
		require.Equal(t, values, again)
	})
}

func FuzzParams(f *testing.F) {
	fl := flowOf[kinds]()
	for _, text := range []string{"", "1", "-1", "true", "0.5", "NaN", "2s", "2026-01-31T12:00:00Z", "[1,2]", `{"a":1}`, `{"X":1}`, `"aGk="`, "\xff", "0x1p-2", "[[[["} {
		f.Add("s", text)
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		given := map[string]string{name: text}
		_, _ = fl.ResolveParams(given, env(map[string]string{"STEPWELL_RUN_I": text}))
		for _, p := range fl.Params() {
			one := map[string]string{p.Name: text}
			_, err := fl.ResolveParams(one, nil)
			setErr := fl.SetParams(fl.NewState(), one)
			require.Equal(t, err == nil, setErr == nil, "%s %q: %v, %v", p.Name, text, err, setErr)
		}
	})
}
