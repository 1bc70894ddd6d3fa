package devserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	persistencespb "go.temporal.io/server/api/persistence/v1"
	"go.temporal.io/server/common"
	"go.temporal.io/server/common/persistence"
	"go.temporal.io/server/common/persistence/serialization"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/common/searchattribute/sadefs"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/stepwell-flows/stepwell/workflows"
)

// namespace is the only one that flows use here; the Web UI opens it by default.
const namespace = "default"

// retention is how long the server keeps closed runs: ten years, because a development server should not forget a run
// by itself. (The server knows no "forever", and its default here would be one day.)
const retention = 10 * 365 * 24 * time.Hour

// ensureNamespace writes the namespace into the database before the server starts, and adds what an older directory
// lacks. Through the API the same would cost several refreshes of the server's namespace cache, 2 s each.
func (db *database) ensureNamespace(ctx context.Context) error {
	plugin, err := db.plugin()
	if err != nil {
		return err
	}
	defer func() { _ = plugin.Close() }()
	serializer := serialization.NewSerializer()
	name := namespace
	rows, err := plugin.SelectFromNamespace(ctx, sqlplugin.NamespaceFilter{Name: &name})
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if len(rows) == 0 {
		id := uuid.New()
		detail := newNamespace(id.String())
		if _, err := addSearchAttributes(detail.Config); err != nil {
			return err
		}
		blob, err := serializer.NamespaceDetailToBlob(detail)
		if err != nil {
			return err
		}
		_, err = plugin.InsertIntoNamespace(ctx, &sqlplugin.NamespaceRow{
			ID: primitives.UUID(id[:]), Name: name, Data: blob.GetData(), DataEncoding: blob.GetEncodingType().String(),
		})
		return err
	}
	row := rows[0]
	detail, err := serializer.NamespaceDetailFromBlob(persistence.NewDataBlob(row.Data, row.DataEncoding))
	if err != nil {
		return err
	}
	changed, err := addSearchAttributes(detail.Config)
	if err != nil {
		return err
	}
	if detail.Config.Retention.AsDuration() < retention {
		detail.Config.Retention = durationpb.New(retention)
		changed = true
	}
	if !changed {
		return nil
	}
	detail.ConfigVersion++
	blob, err := serializer.NamespaceDetailToBlob(detail)
	if err != nil {
		return err
	}
	row.Data, row.DataEncoding = blob.GetData(), blob.GetEncodingType().String()
	_, err = plugin.UpdateNamespace(ctx, &row)
	return err
}

func newNamespace(id string) *persistencespb.NamespaceDetail {
	return &persistencespb.NamespaceDetail{
		Info: &persistencespb.NamespaceInfo{
			Id:          id,
			Name:        namespace,
			State:       enumspb.NAMESPACE_STATE_REGISTERED,
			Description: "Stepwell development",
		},
		Config: &persistencespb.NamespaceConfig{
			Retention:               durationpb.New(retention),
			HistoryArchivalState:    enumspb.ARCHIVAL_STATE_DISABLED,
			VisibilityArchivalState: enumspb.ARCHIVAL_STATE_DISABLED,
		},
		ReplicationConfig: &persistencespb.NamespaceReplicationConfig{
			ActiveClusterName: clusterName,
			Clusters:          []string{clusterName},
		},
		FailoverVersion:             common.EmptyVersion,
		FailoverNotificationVersion: -1,
	}
}

// addSearchAttributes gives each search attribute that is missing the first free column of its type.
func addSearchAttributes(c *persistencespb.NamespaceConfig) (changed bool, err error) {
	if c.CustomSearchAttributeAliases == nil {
		c.CustomSearchAttributeAliases = make(map[string]string)
	}
	taken := make(map[string]bool)
	for _, alias := range c.CustomSearchAttributeAliases {
		taken[alias] = true
	}
	var columns []string
	types := sadefs.GetDBIndexSearchAttributes(nil).CustomSearchAttributes
	for column := range types {
		columns = append(columns, column)
	}
	slices.Sort(columns)
	for _, a := range workflows.SearchAttributes() {
		if taken[a.GetName()] {
			continue
		}
		i := slices.IndexFunc(columns, func(column string) bool {
			_, used := c.CustomSearchAttributeAliases[column]
			return types[column] == a.GetValueType() && !used
		})
		if i < 0 {
			return false, fmt.Errorf("no free column for search attribute %q (remove one of type %s that you added)", a.GetName(), a.GetValueType())
		}
		c.CustomSearchAttributeAliases[columns[i]] = a.GetName()
		changed = true
	}
	return changed, nil
}
