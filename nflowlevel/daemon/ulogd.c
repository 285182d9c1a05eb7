// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ulogd: nflowlevel-daemon as a program of its own, for /usr/sbin/ulogd.
 *
 * Init scripts know a daemon by its executable (/proc/PID/exe) and its name.
 * A Python script has the interpreter's: start-stop-daemon would neither see
 * that it runs nor stop it. This is the interpreter, with one module to run.
 *
 * It lies in the bin directory of a virtual environment, or of Python itself,
 * and uses what python3 beside it would use.
 */
#include <Python.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static PyStatus start(PyConfig *config, int argc, char **argv)
{
	char self[PATH_MAX + 1] = "", python[PATH_MAX + 16];
	PyStatus status;

	if (readlink("/proc/self/exe", self, PATH_MAX) < 0)
		return PyStatus_Error("ulogd cannot find itself: is /proc mounted?");
	snprintf(python, sizeof(python), "%s/python3", dirname(self));
	/* The arguments are the daemon's; its directory is no place to import from. */
	config->parse_argv = 0;
	config->safe_path = 1;
	status = PyConfig_SetBytesString(config, &config->program_name, python);
	if (!PyStatus_Exception(status))
		status = PyConfig_SetBytesString(config, &config->executable, python);
	if (!PyStatus_Exception(status))
		status = PyConfig_SetString(config, &config->run_module, L"nflowlevel.daemon");
	if (!PyStatus_Exception(status))
		status = PyConfig_SetBytesArgv(config, argc, argv);
	if (!PyStatus_Exception(status))
		status = Py_InitializeFromConfig(config);
	return status;
}

/* As start.py does, but before the interpreter starts: the loop lets them come. */
static void hold_signals(void)
{
	sigset_t held;

	sigemptyset(&held);
	sigaddset(&held, SIGHUP);
	sigaddset(&held, SIGUSR1);
	sigaddset(&held, SIGUSR2);
	sigaddset(&held, SIGALRM);
	sigprocmask(SIG_BLOCK, &held, NULL);
}

int main(int argc, char **argv)
{
	PyConfig config;
	PyStatus status;

	hold_signals();
	PyConfig_InitPythonConfig(&config);
	status = start(&config, argc, argv);
	PyConfig_Clear(&config);
	if (PyStatus_Exception(status))
		Py_ExitStatusException(status);
	return Py_RunMain();
}
