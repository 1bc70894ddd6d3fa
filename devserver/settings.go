package devserver

import (
	"time"

	"go.temporal.io/server/common/dynamicconfig"
)

// setting is one dynamic-config value that differs from the server's default, with the reason.
type setting struct {
	key    dynamicconfig.Key
	value  any
	reason string
}

// plenty is a rate that a single machine cannot reach. The defaults protect a shared production cluster.
const plenty = 100_000

// settings is the whole difference between this server and a stock one.
func settings() []setting {
	return []setting{
		// Latency of a step: how soon the server looks at its own queues.
		{dynamicconfig.TransferProcessorMaxPollRPS.Key(), plenty,
			"20 reads/s per shard by default: the 40 ms that a sequential activity waits on a stock server"},
		{dynamicconfig.TimerProcessorMaxPollRPS.Key(), plenty,
			"20/s by default: retry delays and timeouts would fire late"},
		{dynamicconfig.TimerProcessorMaxTimeShift.Key(), 10 * time.Millisecond,
			"1 s by default, against clocks that differ between machines: no retry would come sooner than that"},
		{dynamicconfig.VisibilityProcessorMaxPollRPS.Key(), plenty,
			"20/s by default: started and closed runs would show late in lists"},
		{dynamicconfig.OutboundProcessorMaxPollRPS.Key(), plenty,
			"20/s by default: callbacks would leave late"},
		{dynamicconfig.TransferProcessorMaxPollHostRPS.Key(), plenty, "0 means a share of history.persistenceMaxQPS"},
		{dynamicconfig.TimerProcessorMaxPollHostRPS.Key(), plenty, "0 means a share of history.persistenceMaxQPS"},
		{dynamicconfig.VisibilityProcessorMaxPollHostRPS.Key(), plenty, "0 means a share of history.persistenceMaxQPS"},
		{dynamicconfig.OutboundProcessorMaxPollHostRPS.Key(), plenty, "0 means a share of history.persistenceMaxQPS"},
		{dynamicconfig.MatchingNumTaskqueueReadPartitions.Key(), 1,
			"with 4 partitions and one worker, tasks and polls meet only by forwarding, up to 200 ms late"},
		{dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(), 1, "as the read partitions"},
		{dynamicconfig.WorkflowIdReuseMinimalInterval.Key(), time.Duration(0),
			"1 s by default: a run that continues as new earlier would wait for the rest"},

		// Request rates: one machine runs as fast as it can.
		{dynamicconfig.FrontendRPS.Key(), plenty, "2,400/s by default, polls included: about 600 sequential activities/s"},
		{dynamicconfig.FrontendMaxNamespaceRPSPerInstance.Key(), plenty, "as frontend.rps, per namespace"},
		{dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(), 1_000,
			"10/s by default: the Web UI and list commands would starve each other"},
		{dynamicconfig.FrontendMaxConcurrentLongRunningRequestsPerInstance.Key(), 10_000,
			"1,200 by default: several programs with many pollers share this server"},
		{dynamicconfig.FrontendMaxNamespaceNamespaceReplicationInducingAPIsRPSPerInstance.Key(), 100,
			"1/s by default: adding search attributes in a row would be refused"},
		{dynamicconfig.FrontendNamespaceReplicationInducingAPIsRPS.Key(), 100, "as above, for the host"},
		{dynamicconfig.HistoryRPS.Key(), plenty, "3,000/s by default"},
		{dynamicconfig.MatchingRPS.Key(), plenty, "1,200/s by default: about 300 sequential activities/s"},
		{dynamicconfig.FrontendPersistenceMaxQPS.Key(), plenty, "2,000/s by default: reading histories"},
		{dynamicconfig.HistoryPersistenceMaxQPS.Key(), plenty, "9,000/s by default"},
		{dynamicconfig.MatchingPersistenceMaxQPS.Key(), plenty, "3,000/s by default"},
		{dynamicconfig.WorkerPersistenceMaxQPS.Key(), plenty, "500/s by default"},
		{dynamicconfig.VisibilityPersistenceMaxReadQPS.Key(), plenty, "9,000/s by default"},
		{dynamicconfig.VisibilityPersistenceMaxWriteQPS.Key(), plenty, "9,000/s by default"},
		{dynamicconfig.BatcherRPS.Key(), 1_000, "50/s by default: bulk cancel of a large fan-out from the Web UI"},
		{dynamicconfig.SchedulerNamespaceStartWorkflowRPS.Key(), 1_000.0, "30/s by default: a backfill would crawl"},

		// Memory: the defaults are made for a large host that runs nothing else.
		{dynamicconfig.TransferProcessorSchedulerWorkerCount.Key(), 64, "512 goroutines by default, on one SQLite file"},
		{dynamicconfig.TimerProcessorSchedulerWorkerCount.Key(), 64, "as the transfer queue"},
		{dynamicconfig.VisibilityProcessorSchedulerWorkerCount.Key(), 16, "as the transfer queue; nobody waits for it"},
		{dynamicconfig.EventsCacheMaxSizeBytes.Key(), 8 << 20,
			"512 KiB by default, for each shard: in a fan-out the server would read back what it was told a moment ago"},
		{dynamicconfig.HistoryCacheHostLevelMaxSize.Key(), 8_192, "128,000 cached runs by default"},
		{dynamicconfig.ExternalPayloadsEnabled.Key(), false,
			"the server goes through all payloads of all events, to count those that are stored elsewhere: there are none, and " +
				"it writes to events that another goroutine sends at the same time, a data race"},

		// No company: nothing to scan for on one machine, and nobody to report to.
		{dynamicconfig.EnableServerVersionCheck.Key(), false, "asks a server on the internet for newer versions"},
		{dynamicconfig.TaskQueueScannerEnabled.Key(), false, "a background workflow that only a long-lived cluster needs"},
		{dynamicconfig.HistoryScannerEnabled.Key(), false, "a background workflow that only a long-lived cluster needs"},
		{dynamicconfig.ExecutionsScannerEnabled.Key(), false, "a background workflow that only a long-lived cluster needs"},
		{dynamicconfig.EnableParentClosePolicyWorker.Key(), false,
			"a system worker that a stop does not stop: its poll delays each stop by 1 s and goes on after it; " +
				"without it the history service ends the children of a closed run itself"},
	}
}

// dynamicConfig is settings in the form that the server reads.
func dynamicConfig() dynamicconfig.StaticClient {
	c := make(dynamicconfig.StaticClient)
	for _, s := range settings() {
		c[s.key] = s.value
	}
	return c
}
