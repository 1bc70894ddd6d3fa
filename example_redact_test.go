package stepwell_test

import (
	"context"
	"fmt"
	"regexp"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/flow"
)

// A program hides what only it knows to be secret: a value that a step got, and numbers of customers wherever they turn up.
func ExampleApp_redact() {
	type State struct{ Rows int }
	connect := func(ctx context.Context, _ *State) error {
		password := "drawn-from-a-vault"
		flow.Redact(ctx, password)
		flow.Log(ctx).Info("connected", "host", "db", "dsn", "postgres://ada:"+password+"@db/rows")
		return nil
	}
	flows := []*flow.Flow{flow.New("ConnectFlow", flow.Step("connect", connect))}
	app := stepwell.App{Flows: flows, Redact: []*regexp.Regexp{regexp.MustCompile(`\bcust-\d{6}\b`)}}
	fmt.Println(app.Flows[0].Name())
	// Output: ConnectFlow
}
