/* SPDX-License-Identifier: MIT */
/*
 * Runs the benches, then prints what matters of them: for each goal the ratio of two rows of this
 * run, or a figure against the promise that was made for it. Absolute times are this machine's,
 * this hour's; the ratios are what to compare. The exit status is 1 if a row reported an error.
 */
#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include <unistd.h>

#include "bench/support.h"

namespace
{

// Prints as the console does, and keeps the figure of each row.
class Reporter : public benchmark::ConsoleReporter
{
  public:
    Reporter() : ConsoleReporter(isatty(STDOUT_FILENO) ? OO_ColorTabular : OO_Tabular)
    {
    }

    void ReportRuns(const std::vector<Run> &runs) override
    {
        for (const Run &run : runs)
            keep(run);
        ConsoleReporter::ReportRuns(runs);
    }

    // The median of the row's repetitions, in nanoseconds; negative if there is none.
    double figure(const std::string &name) const
    {
        for (const auto &row : rows_)
            if (row.first == name || row.first.rfind(name + "/", 0) == 0)
                return median(row.second);
        return -1;
    }

    bool has_error() const
    {
        return has_error_;
    }

  private:
    void keep(const Run &run)
    {
        const auto each = run.counters.find("each");

        has_error_ = has_error_ || run.error_occurred;
        if (run.error_occurred || run.run_type != Run::RT_Iteration || each == run.counters.end())
            return;
        rows_[run.benchmark_name()].push_back(each->second.value * 1e9);
    }

    static double median(std::vector<double> values)
    {
        std::sort(values.begin(), values.end());
        return values[values.size() / 2];
    }

    std::map<std::string, std::vector<double>> rows_;
    bool has_error_ = false;
};

void print_limit(double value, double limit)
{
    if (limit > 0)
        std::printf("  promised %g: %s", limit, value <= limit ? "kept" : "MISSED");
    std::printf("\n");
}

void print_goal(const Reporter &reporter, const rdy_bench::Goal &goal)
{
    const double value = reporter.figure(goal.name);
    const double against = goal.against.empty() ? 1 : reporter.figure(goal.against);

    if (value < 0 || against <= 0)
        return;
    if (goal.against.empty()) {
        std::printf("%-52s %9.1f ns", goal.what.c_str(), value);
        print_limit(value, goal.limit);
        return;
    }
    std::printf("%-52s %9.2f x  (%.1f ns, %.1f ns)", goal.what.c_str(), value / against, value,
                against);
    print_limit(value / against, goal.limit);
}

} // namespace

int main(int argc, char **argv)
{
    Reporter reporter;

    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv))
        return 2;
    benchmark::RunSpecifiedBenchmarks(&reporter);
    std::printf("\nWhat matters of it\n");
    for (const rdy_bench::Goal &goal : rdy_bench::goals())
        print_goal(reporter, goal);
    benchmark::Shutdown();
    return reporter.has_error() ? 1 : 0;
}
