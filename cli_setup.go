package stepwell

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/workflows"
)

// setupFlags are the flags of setup.
type setupFlags struct {
	check, links bool
	webUI        string
	filter       runs.Filter
}

func (c *command) setupCmd() *cobra.Command {
	var o setupFlags
	cmd := &cobra.Command{
		Use: "setup", Short: "Give a Temporal server the search attributes of runs; links to lists of its Web UI",
		Long: `Give the namespace of a Temporal server the search attributes by which its Web UI finds runs.

Runs work without them, but cannot be found by flow, user, tag, project or failed step there. It can be
called again, and needs the rights of an administrator once. The embedded server has them all.

--links prints addresses of useful lists: the Web UI can save them as views.`,
		Example: c.examples(
			"setup --address temporal:7233 --namespace ml      create what is missing",
			"setup --check                                     only tell; exits 1 if something is missing",
			"setup --links --web-ui https://temporal.internal  lists of runs in the Web UI",
			"setup --links --tag nightly --project fraud       those of a tag and a project, too"),
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			given := o.filter.User + o.filter.Project + o.filter.Branch
			if !o.links && (given != "" || len(o.filter.Tags) > 0 || o.webUI != "") {
				return inputf("--user, --tag, --project, --branch and --web-ui are for lists (add --links)")
			}
			if o.filter.Branch != "" && o.filter.Project == "" {
				return inputf("a branch is of a project (name it: --project)")
			}
			if o.links && o.check {
				return inputf("--check and --links are two things to do (leave one out)")
			}
			if o.links {
				return c.setupLinks(cmd.Context(), o)
			}
			return c.setup(cmd.Context(), o.check)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.check, "check", false, "change nothing, and exit with 1 if something is missing")
	f.BoolVar(&o.links, "links", false, "print links to lists of runs in the Temporal Web UI")
	f.StringVar(&o.webUI, "web-ui", "", "address of the Temporal Web UI (default STEPWELL_WEB_UI, else that of the embedded server)")
	f.StringVar(&o.filter.User, "user", "", "whose runs to link to (default your own)")
	f.StringArrayVar(&o.filter.Tags, "tag", nil, "link to runs with this tag, too (may be given several times)")
	f.StringVar(&o.filter.Project, "project", "", "link to runs of this project, too")
	f.StringVar(&o.filter.Branch, "branch", "", "link to runs on this branch of the project, too: user.NAME, test.NAME, prod or prod.NAME")
	return c.withJSON(cmd)
}

// setupDocument is what setup prints as JSON.
type setupDocument struct {
	Address   string `json:"address,omitempty"`
	Namespace string `json:"namespace"`
	// Embedded says that the server is the embedded one, which has all attributes.
	Embedded   bool              `json:"embedded"`
	Ready      bool              `json:"ready"`
	Attributes []SearchAttribute `json:"attributes"`
}

func (c *command) setup(ctx context.Context, check bool) error {
	o, configured, err := c.temporalOptions()
	if err != nil {
		return err
	}
	if !configured && c.app.Dev == nil {
		return inputf("no Temporal server is configured (set --address or TEMPORAL_ADDRESS; this program has none built in)")
	}
	doc := setupDocument{Address: o.HostPort, Namespace: o.Namespace, Embedded: !configured, Ready: true}
	if !configured {
		for _, key := range workflows.SearchAttributes() {
			doc.Attributes = append(doc.Attributes, SearchAttribute{Name: key.GetName(), Type: key.GetValueType().String(), State: SearchPresent})
		}
		if c.set.json {
			return c.printJSON(doc)
		}
		fmt.Fprintln(c.io.Out, "nothing to do: the embedded server has all search attributes (name another server with --address or TEMPORAL_ADDRESS)")
		return nil
	}
	t, err := dial(ctx, o)
	if err != nil {
		return err
	}
	defer t.Close()
	if check {
		doc.Attributes, err = SearchAttributes(ctx, t, o.Namespace)
	} else {
		doc.Attributes, err = AddSearchAttributes(ctx, t, o.Namespace)
	}
	if err != nil && doc.Attributes == nil {
		return err
	}
	for _, a := range doc.Attributes {
		doc.Ready = doc.Ready && a.Ready()
	}
	if c.set.json {
		err = errors.Join(c.printJSON(doc), err)
	} else {
		c.printSetup(doc)
	}
	if err == nil && !doc.Ready {
		return &exitError{ExitFailed}
	}
	return err
}

func (c *command) printSetup(doc setupDocument) {
	s := c.term.out.style
	fmt.Fprintf(c.io.Out, "search attributes of namespace %q at %s\n", doc.Namespace, doc.Address)
	t := newTable(c.io.Out)
	t.indent = "  "
	for _, a := range doc.Attributes {
		state := s.bad(string(a.State))
		if a.Ready() {
			state = s.good(string(a.State))
		}
		t.row(a.Name, a.Type, state, clean(a.Has))
	}
	t.flush()
	missing := false
	for _, a := range doc.Attributes {
		switch a.State {
		case SearchMissing:
			missing = true
		case SearchOtherType:
			fmt.Fprintf(c.io.Err, "%s is %s there, and has to be %s: runs go without it (if nobody needs it: temporal operator search-attribute remove --namespace %s --name %s, then setup again)\n",
				a.Name, clean(a.Has), a.Type, doc.Namespace, a.Name)
		case SearchRefused:
			fmt.Fprintf(c.io.Err, "%s was refused: %s (a SQL database has room for 10 Keyword, 3 KeywordList and 3 Bool attributes in a namespace: remove one of type %s that nobody needs, or use a namespace of its own)\n",
				a.Name, clean(a.Reason), a.Type)
		case SearchPresent, SearchCreated:
		}
	}
	if missing {
		fmt.Fprintf(c.io.Err, "some are missing (create them with: %s)\n", c.hint("setup"))
	}
}

func (c *command) setupLinks(ctx context.Context, o setupFlags) error {
	options, configured, err := c.temporalOptions()
	if err != nil {
		return err
	}
	webUI, err := c.webUIAddress(o.webUI)
	if err != nil {
		return err
	}
	if webUI == "" && !configured && c.app.Dev != nil {
		if dev, err := c.app.Dev(ctx, DevOptions{Dir: c.set.stateDir, Existing: true, Logger: c.logger()}); err == nil {
			webUI, options.Namespace = dev.WebUI, dev.Namespace
			dev.Stop()
		}
	}
	if webUI == "" {
		return inputf("the address of the Temporal Web UI is not known (give it with --web-ui or STEPWELL_WEB_UI; that of the embedded server is known while it runs, see dev)")
	}
	if o.filter.User == "" {
		o.filter.User = systemUser()
	}
	views := linked(usefulViews(c.app.names(), o.filter), webUI, options.Namespace)
	if c.set.json {
		return c.printJSON(views)
	}
	t := newTable(c.io.Out)
	for _, v := range views {
		t.row(clean(v.Name), v.URL)
	}
	t.flush()
	return nil
}
