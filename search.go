package stepwell

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/workflows"
)

// SearchAttribute says how one of the search attributes of runs stands in a namespace.
type SearchAttribute struct {
	Name string `json:"name"`
	// Type is the type that Stepwell needs, like Keyword.
	Type  string      `json:"type"`
	State SearchState `json:"state"`
	// Has is the type of the attribute that has this name in the namespace, if it is another one.
	Has string `json:"has,omitempty"`
	// Reason is why the server refused to create it.
	Reason string `json:"reason,omitempty"`
}

// SearchState is how a search attribute stands.
type SearchState string

// The states of search attributes.
const (
	SearchPresent   SearchState = "present"
	SearchCreated   SearchState = "created"
	SearchMissing   SearchState = "missing"
	SearchOtherType SearchState = "other type"
	SearchRefused   SearchState = "refused"
)

// Ready says that runs can set the attribute.
func (a SearchAttribute) Ready() bool { return a.State == SearchPresent || a.State == SearchCreated }

// SearchAttributes says which search attributes of runs a namespace has. Runs do without those that it lacks.
func SearchAttributes(ctx context.Context, c client.Client, namespace string) ([]SearchAttribute, error) {
	// Asked about a namespace that does not exist, the operator's service answers like one that is away for a while.
	if _, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: namespace}); err != nil {
		return nil, setupError(namespace, err)
	}
	has, err := customAttributes(ctx, c, namespace)
	if err != nil {
		return nil, setupError(namespace, err)
	}
	var out []SearchAttribute
	for _, key := range workflows.SearchAttributes() {
		a := SearchAttribute{Name: key.GetName(), Type: key.GetValueType().String(), State: SearchPresent}
		switch kind, ok := has[a.Name]; {
		case !ok:
			a.State = SearchMissing
		case kind != key.GetValueType():
			a.State, a.Has = SearchOtherType, kind.String()
		}
		out = append(out, a)
	}
	return out, nil
}

// AddSearchAttributes gives a namespace the search attributes of runs that it lacks, and says how all stand then. It can be called
// again. It returns when the server knows them: about four seconds after it created some. That some cannot be had is not an error:
// they say why.
func AddSearchAttributes(ctx context.Context, c client.Client, namespace string) ([]SearchAttribute, error) {
	all, err := SearchAttributes(ctx, c, namespace)
	if err != nil {
		return nil, err
	}
	missing := map[enumspb.IndexedValueType]map[string]enumspb.IndexedValueType{}
	for i, key := range workflows.SearchAttributes() {
		if kind := key.GetValueType(); all[i].State == SearchMissing {
			if missing[kind] == nil {
				missing[kind] = map[string]enumspb.IndexedValueType{}
			}
			missing[kind][key.GetName()] = kind
		}
	}
	refused := map[enumspb.IndexedValueType]string{}
	// A type at a time: a SQL database has room for a few of each, and where one has none left, the others can be had.
	for kind, names := range missing {
		_, err := c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: names})
		var invalid *serviceerror.InvalidArgument
		switch {
		case errors.As(err, &invalid):
			refused[kind] = err.Error()
		case err != nil:
			return nil, setupError(namespace, err)
		}
	}
	for i, key := range workflows.SearchAttributes() {
		if reason, ok := refused[key.GetValueType()]; ok && all[i].State == SearchMissing {
			all[i].State, all[i].Reason = SearchRefused, reason
		}
	}
	return all, awaitAttributes(ctx, c, namespace, all)
}

const (
	// setupPatience is how long a server may take to know new attributes: 2 s, or a minute if it keeps them in Elasticsearch.
	setupPatience = 75 * time.Second
	// setupSpread is how long the part of a server that runs workflows, which cannot be asked, may take longer than those that
	// can: each reads the namespaces every 2 s (system.namespaceCacheRefreshInterval). Until it knows an attribute, a workflow
	// task that sets it fails and is tried again; with Elasticsearch that may be so for the rest of the minute.
	setupSpread = 2500 * time.Millisecond
)

// awaitAttributes waits until the server knows those that were missing.
func awaitAttributes(ctx context.Context, c client.Client, namespace string, all []SearchAttribute) error {
	created := false
	for deadline := time.Now().Add(setupPatience); ; {
		has, err := customAttributes(ctx, c, namespace)
		if err != nil {
			return setupError(namespace, err)
		}
		waits := ""
		for i := range all {
			if _, ok := has[all[i].Name]; all[i].State == SearchMissing && ok {
				all[i].State, created = SearchCreated, true
			} else if all[i].State == SearchMissing {
				waits = all[i].Name
			}
		}
		if waits == "" {
			if waits = unsearchable(ctx, c, namespace, all); waits == "" {
				break
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server took search attribute %q, but does not know it after %s (look again with --check)", waits, setupPatience)
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	if created {
		return sleep(ctx, setupSpread)
	}
	return nil
}

// sleep waits for a time, or less: the error is that of the context.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// unsearchable names an attribute that was created and cannot be looked for yet, "" if there is none: what takes runs learns of it a
// little later than what lists attributes.
func unsearchable(ctx context.Context, c client.Client, namespace string, all []SearchAttribute) (name string) {
	var terms []string
	for _, a := range all {
		if a.State == SearchCreated {
			name, terms = a.Name, append(terms, a.Name+" IS NOT NULL")
		}
	}
	if len(terms) == 0 {
		return ""
	}
	_, err := c.WorkflowService().CountWorkflowExecutions(ctx, &workflowservice.CountWorkflowExecutionsRequest{
		Namespace: namespace, Query: strings.Join(terms, " AND "),
	})
	if _, invalid := errors.AsType[*serviceerror.InvalidArgument](err); invalid {
		return name
	}
	return ""
}

// customAttributes are the search attributes that a namespace was given.
func customAttributes(ctx context.Context, c client.Client, namespace string) (map[string]enumspb.IndexedValueType, error) {
	list, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	return list.GetCustomAttributes(), err
}

// setupError says what to do about an answer of the server.
func setupError(namespace string, err error) error {
	var (
		denied  *serviceerror.PermissionDenied
		unknown *serviceerror.NamespaceNotFound
		absent  *serviceerror.Unimplemented
		wrap    = func(format string, args ...any) error { return &unusableError{fmt.Errorf(format, args...)} }
	)
	var names []string
	for _, key := range workflows.SearchAttributes() {
		names = append(names, key.GetName()+"="+key.GetValueType().String())
	}
	list := strings.Join(names, " ")
	switch {
	case errors.As(err, &unknown):
		return wrap("namespace %q does not exist (create it with: temporal operator namespace create --namespace %s): %w", namespace, namespace, err)
	case errors.As(err, &absent):
		return wrap("the server does not let clients see to search attributes, as in Temporal Cloud (add them to namespace %q in its web console or with tcld namespace search-attributes add: %s): %w", namespace, list, err)
	case errors.As(err, &denied):
		return wrap("you may not see to the search attributes of namespace %q (let an administrator run this, or add them: %s): %w", namespace, list, err)
	}
	return fmt.Errorf("search attributes of namespace %q: %w", namespace, err)
}

// namespaceAttributes remembers which search attributes the namespace of a client has.
type namespaceAttributes struct {
	mu    sync.Mutex
	has   map[string]enumspb.IndexedValueType
	known bool
	until time.Time
}

// forget is how long an answer counts that some attributes are missing: somebody may be about to create them.
const forget = time.Minute

// attributes says which search attributes there are. It is not known where a user may start runs but not ask for that.
func (c *Client) attributes(ctx context.Context) (has map[string]enumspb.IndexedValueType, known bool) {
	a := &c.search
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.options.Namespace == "" || !a.until.IsZero() && time.Now().Before(a.until) {
		return a.has, a.known
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // a server that is away is the start's to tell
	defer cancel()
	found, err := customAttributes(ctx, c.temporal, c.options.Namespace)
	if ctx.Err() != nil && err != nil {
		return a.has, a.known
	}
	a.has, a.known, a.until = found, err == nil, time.Now().Add(forget)
	complete := a.known
	for _, key := range workflows.SearchAttributes() {
		complete = complete && found[key.GetName()] == key.GetValueType()
	}
	if complete {
		a.until = time.Now().Add(24 * time.Hour)
	}
	return a.has, a.known
}

// searchAttributes are those of a run at its start, of the ones that there are.
func searchAttributes(doc records.Run, has map[string]enumspb.IndexedValueType, known bool) temporal.SearchAttributes {
	var updates []temporal.SearchAttributeUpdate
	there := func(key temporal.SearchAttributeKey) bool {
		return !known || has[key.GetName()] == key.GetValueType()
	}
	for _, a := range []struct {
		key   temporal.SearchAttributeKeyKeyword
		value string
	}{
		{workflows.AttrFlow, doc.Flow}, {workflows.AttrRun, doc.Run}, {workflows.AttrUser, doc.User}, {workflows.AttrOrigin, doc.Origin},
		{workflows.AttrProject, doc.Project}, {workflows.AttrBranch, doc.Branch},
	} {
		if a.value != "" && there(a.key) {
			updates = append(updates, a.key.ValueSet(a.value))
		}
	}
	if tags := searchTags(doc.Tags); len(tags) > 0 && there(workflows.AttrTags) {
		updates = append(updates, workflows.AttrTags.ValueSet(tags))
	}
	return temporal.NewSearchAttributes(updates...)
}
