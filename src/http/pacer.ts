/**
 * Runs jobs in order and at most `perTurn` of them in one turn of the event loop: without it all requests that arrived
 * meanwhile, up to one of each connection, would be answered before anything else in the process has its turn.
 */
export function createPacer(perTurn: number): (job: () => void) => void {
  let queue: (() => void)[] = [];
  let left = perTurn;
  let isArmed = false;
  const arm = (): void => {
    if (isArmed) return;
    isArmed = true;
    setImmediate(() => {
      isArmed = false;
      left = perTurn;
      if (queue.length === 0) return;
      arm();
      const jobs = queue.slice(0, perTurn);
      queue = queue.slice(perTurn);
      left -= jobs.length;
      for (const job of jobs) job();
    });
  };
  return (job) => {
    arm();
    if (queue.length > 0 || left === 0) queue.push(job);
    else {
      left--;
      job();
    }
  };
}
