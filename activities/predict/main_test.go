package predict_test

import (
	"log/slog"
	"os"
	"testing"
)

// Calls outside of a run log to the default logger: a line for each attempt.
func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}
